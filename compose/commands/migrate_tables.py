"""How the migration is shown: state, processes, gates, and what to set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from migration_guide.gates.result import Result
from migration_guide.phases import PHASES, Step
from migration_guide.steps import Look
from persistence.migration_state import MigrationEvent, MigrationState
from persistence.processes import Process

__all__ = ["as_data", "as_json", "gates", "head", "history", "instructions", "processes"]

_COLOURS = {"green": "green", "red": "red", "unknown": "yellow"}


def as_json(value: Any) -> str:
    """Return JSON of structs and what they are in."""
    return json.dumps(msgspec.to_builtins(value))


def as_data(look: Look) -> dict[str, Any]:
    """Return what ``status --json`` prints of a look."""
    return {
        "state": look.state,
        "name": PHASES[look.state.phase].name,
        "settled": look.state.settled,
        "reached": look.reached,
        "processes": [{**msgspec.to_builtins(one), "live": one.live} for one in look.processes],
    }


def head(state: MigrationState) -> Text:
    """Return the state in a few lines."""
    phase = PHASES[state.phase]
    text = Text()
    text.append(f"phase {phase.label}", style="bold green" if state.settled else "bold")
    if not state.settled:
        text.append(f" -> {PHASES[state.target].label}, under way", style="bold yellow")
    text.append(f"   epoch {state.epoch}\n", style="dim")
    text.append(f"{phase.what}\n")
    text.append(f"since {_short(state.changed_at)} by {state.changed_by}: {state.why}", style="dim")
    if (queued := state.queued) is not None:
        text.append(
            f"\nqueued: a step to {PHASES[queued.to].label} by {queued.who} until "
            f"{_short(queued.until)} ({queued.why}), waits for "
            f"{', '.join(queued.red) or 'nothing'}",
            style="yellow",
        )
    return text


def processes(found: Sequence[Process], expected: frozenset[int]) -> RenderableType:
    """Return the processes as a table; what is not as expected stands out."""
    if not found:
        return Text("no process says that it runs", style="yellow")
    table = Table(box=None, pad_edge=False)
    for heading in ("process", "role", "phase", "seen", "partitions", "shadow", "waits for"):
        table.add_column(heading)
    for one in found:
        phase = PHASES[one.phase].label if one.phase is not None else f"none ({one.transport})"
        right = one.phase in expected
        seen = f"{one.silent_seconds:.0f} s ago"
        owned = " ".join(f"{name}:{len(parts)}" for name, parts in one.owned.items() if parts)
        waits = ", ".join(pause["dependency"] for pause in one.paused)
        table.add_row(
            Text(one.member),
            one.role,
            Text(phase, style="green" if right else "red"),
            Text(seen if one.live else f"missing, {seen}", style="" if one.live else "red"),
            owned or "-",
            _shadow(one.shadow),
            Text(waits or "-", style="red" if waits else ""),
        )
    return table


def gates(results: Sequence[Result]) -> RenderableType:
    """Return the gates' answers, one a line."""
    table = Table(box=None, pad_edge=False)
    for heading in ("gate", "", "reason"):
        table.add_column(heading)
    for one in results:
        table.add_row(one.name, Text(one.verdict, style=_COLOURS[one.verdict]), Text(one.reason))
    return table


def instructions(step: Step) -> RenderableType:
    """Return exactly what to set and restart."""
    target = PHASES[step.to]
    values = target.choice.environment()
    given = {name: value for name, value in values.items() if value}
    lines = [Text(f"  {name}={value}") for name, value in given.items()]
    if unset := [name for name, value in values.items() if not value]:
        lines.append(Text(f"  (unset {' '.join(unset)})"))
    on_one_line = " ".join(f"{name}={value}" for name, value in given.items())
    parts: list[RenderableType] = [
        Text(
            f"Phase {target.label}: {target.what} Set this for every process, and restart them one "
            "after another:\n"
        ),
        *lines,
        Text("\nWhere 'make up' runs: Ctrl-C there, and then\n"),
        Text(f"  {on_one_line} make up"),
    ]
    if step.note:
        parts += [Text(f"\n{step.note}", style="yellow")]
    return Group(*parts)


def history(events: Sequence[MigrationEvent]) -> RenderableType:
    """Return what happened, newest first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("at", no_wrap=True)
    table.add_column("epoch", justify="right")
    table.add_column("what", no_wrap=True)
    table.add_column("who")
    table.add_column("why")
    for one in events:
        where = f"{one.from_phase} -> {one.to_phase}"
        why = one.why + "".join(
            f"; {gate} overruled: {r}" for gate, r in (one.overrides or {}).items()
        )
        table.add_row(
            _short(one.at), str(one.epoch), f"{one.kind} {where}", Text(one.who), Text(why)
        )
    return table


def _short(moment: str) -> str:
    """Return a time without its fractions: who needs them asks for JSON."""
    return f"{moment[:10]} {moment[11:19]}"


def _shadow(told: dict[str, Any] | None) -> Text:
    if told is None:
        return Text("-")
    sick = told["breaker"] != "closed"
    text = f"{told['name']} {told['mode']}: {told['waiting']} wait, {told['dropped']} dropped"
    return Text(f"{text}, {told['breaker']}" if sick else text, style="red" if sick else "")
