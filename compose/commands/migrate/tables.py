"""The migration in a terminal: state, processes, gates, and the settings of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType

from compose.grid import Cell, Grid
from compose.terminal import paragraph, styled
from migration_guide.gates.result import GateResult
from migration_guide.phases import Phase
from migration_guide.phases import phases as phases_of
from migration_guide.resting import describe
from migration_guide.steps import Checked, MigrationStanding
from persistence.fleet.log_choice import LogPair
from persistence.fleet.migration_state import MigrationEvent, MigrationState
from persistence.fleet.processes import Process

__all__ = [
    "as_data",
    "gates",
    "head",
    "history",
    "instructions",
    "plain_data",
    "processes",
    "settings_of",
    "step_data",
    "under_way",
]

_COLOURS = {"green": "green", "red": "red", "unknown": "yellow"}


def plain_data(value: Any) -> Any:
    """Return structs, and lists and dicts of them, as plain JSON values."""
    return msgspec.to_builtins(value)


def as_data(look: MigrationStanding) -> dict[str, Any]:
    """Return the document of ``status --json``."""
    return {
        "state": look.state,
        "name": phases_of(look.state.pair)[look.state.phase].name,
        "under_way": look.state.under_way,
        "reached": look.reached,
        "processes": [
            {**msgspec.to_builtins(process), "live": process.live} for process in look.processes
        ],
    }


def step_data(checked: Checked) -> dict[str, Any]:
    """Return a step for JSON: its phases, its gates, and the settings to use."""
    step = checked.step
    return {
        "from": step.origin,
        "to": step.to,
        "epoch": checked.look.state.epoch,
        "gates": plain_data(checked.results),
        "settings": phases_of(checked.look.state.pair)[step.to].choice.environment(),
        "note": step.note or None,
    }


def head(state: MigrationState) -> RenderableType:
    """Return the state in a few lines."""
    phases = phases_of(state.pair)
    phase = phases[state.phase]
    under_way = f" -> {phases[state.target].label}, under way"
    changed = f"last change {_short(state.changed_at)} by {state.changed_by}: {state.why}"
    lines: list[RenderableType] = [
        styled(
            (f"phase {phase.label}", "bold" if state.under_way else "bold green"),
            (under_way, "bold yellow") if state.under_way else "",
            (f"   {describe(state.pair)}, epoch {state.epoch}", "dim"),
        ),
        phase.what,
        styled((changed, "dim")),
    ]
    if (queued := state.queued) is not None:
        waits = (
            f"queued: a step to {phases[queued.to].label} by {queued.who} until "
            f"{_short(queued.until)} ({queued.why}), waits for "
            f"{', '.join(queued.red) or 'nothing'}"
        )
        lines.append(styled((waits, "yellow")))
    return Group(*lines)


def under_way(look: MigrationStanding) -> RenderableType:
    """Return whether every process is on the step's target, and the settings of the target."""
    target = phases_of(look.state.pair)[look.state.target]
    reached = look.reached
    return Group(
        f"Every process on {target.label}? {reached.verdict}: {reached.reason}",
        paragraph(f"Its settings: {settings_of(target)}"),
    )


def settings_of(phase: Phase) -> str:
    """Return the settings of a phase on one line; unset those without a value."""
    return " ".join(f"{name}={value}" for name, value in phase.choice.environment().items())


def processes(found: Sequence[Process], pair: LogPair, expected: frozenset[int]) -> RenderableType:
    """Return the processes as a table; unexpected values stand out."""
    if not found:
        return styled(("no process says that it runs", "yellow"))
    table = Grid("process")
    table.add_column("role", drop=3)
    table.add_column("phase")
    table.add_column("seen")
    table.add_column("partitions", drop=4)
    table.add_column("shadow", prose=True, drop=5)
    table.add_column("waits for", prose=True, drop=2)
    for process in found:
        phase = f"none ({process.transport})"
        if process.phase is not None:
            phase = phases_of(pair)[process.phase].label
        right = process.phase in expected
        seen = f"{process.silent_seconds:.0f} s ago"
        owned = " ".join(f"{name}:{len(parts)}" for name, parts in process.owned.items() if parts)
        waits = ", ".join(pause.dependency for pause in process.paused)
        table.add_row(
            process.member,
            process.role,
            styled((phase, "green" if right else "red")),
            seen if process.live else styled((f"missing, {seen}", "red")),
            owned or "-",
            _shadow(process.shadow),
            styled((waits, "red")) if waits else "-",
        )
    return table


def gates(results: Sequence[GateResult]) -> RenderableType:
    """Return the gates' answers, one per line."""
    table = Grid("gate", "")
    table.add_column("reason", prose=True)
    for gate in results:
        table.add_row(gate.name, styled((gate.verdict, _COLOURS[gate.verdict])), gate.reason)
    return table


def instructions(target: Phase, note: str = "") -> RenderableType:
    """Return instructions: the settings of ``target``, and how to restart with them."""
    values = target.choice.environment()
    given = {name: value for name, value in values.items() if value}
    what = f"Phase {target.label}: {target.what} Set this for every process, and restart them one"
    parts: list[RenderableType] = [
        f"{what} after another:",
        "",
        *(paragraph(f"  {name}={value}") for name, value in given.items()),
    ]
    if unset := [name for name, value in values.items() if not value]:
        parts.append(f"  (unset {' '.join(unset)})")
    on_one_line = " ".join(f"{name}={value}" for name, value in given.items())
    parts += [
        "",
        "Where 'make up' runs: Ctrl-C there, and then",
        "",
        paragraph(f"  {on_one_line} make up"),
    ]
    if note:
        parts += ["", styled((note, "yellow"))]
    return Group(*parts)


def history(events: Sequence[MigrationEvent]) -> RenderableType:
    """Return the migration's events, newest first."""
    table = Grid()
    table.add_column("at")
    table.add_column("epoch", right=True, drop=3)
    table.add_column("what")
    table.add_column("who", drop=2)
    table.add_column("why", prose=True, drop=1)
    for event in events:
        where = f"{event.from_phase} -> {event.to_phase}"
        why = event.why + "".join(
            f"; {gate} overruled: {r}" for gate, r in (event.overrides or {}).items()
        )
        table.add_row(_short(event.at), str(event.epoch), f"{event.kind} {where}", event.who, why)
    return table


def _short(moment: str) -> str:
    """Return a time without fractions of a second; ``--json`` shows these."""
    return f"{moment[:10]} {moment[11:19]}"


def _shadow(status: dict[str, Any] | None) -> Cell:
    if status is None:
        return "-"
    breaker, sick = status.get("breaker"), status.get("breaker") != "closed"
    counts = f"{status.get('waiting')} wait, {status.get('dropped')} dropped"
    text = f"{status.get('name')} {status.get('mode')}: {counts}"
    return styled((f"{text}, {breaker}", "red")) if sick else text
