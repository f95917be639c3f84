"""``crossfade migrate advance`` and ``rollback``: take one step, with its gates, to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, NoReturn

import typer

from compose.commands.migrate import tables
from compose.commands.migrate.reasons import Accept, GateReasons, Overrule
from compose.commands.migrate.session import explained, session
from compose.commands.migrate.waiting import (
    STATUS,
    Ended,
    GatesStayedRed,
    see_through,
    show_refused,
    status_of,
    wait_for_gates,
)
from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.operator_action import Why, caller
from compose.output import err, out, warn, working
from compose.terminal import confirm, styled
from migration_guide.gates.result import GateResult
from migration_guide.phases import Phase, phases
from migration_guide.steps import Checked, Steps, waiting_helps
from persistence.errors import Outage

__all__ = [
    "JUDGING",
    "StepAsked",
    "Sure",
    "Timeout",
    "Window",
    "begin_step",
    "judge_step",
    "refusal_data",
    "show_gates",
    "take",
]

JUDGING = "Judging the gates; some read both logs ..."
_WATCH = "'crossfade migrate watch'"

Window = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="How far back parity has to have held.")
]
Queue = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Queue the step: wait this long for red gates to turn green."
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Stay until every process is on the new phase.")
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=1,
        metavar="SECONDS",
        help="Wait at most this long until every process is on the new phase; then end with exit "
        "status 4, and leave the step under way.",
    ),
]


class StepAsked(NamedTuple):
    """A requested step: its direction, and the reasons to pass gates that are not green."""

    forward: bool
    who: str
    why: str
    window: float
    reasons: GateReasons


class Sure(NamedTuple):
    """How to begin a step: ``yes``: don't ask; ``queue``: seconds to wait for red gates."""

    yes: bool
    queue: float
    as_json: bool


def take(
    called: typer.Context,
    *,
    why: Why,
    yes: Yes = False,
    window: Window = 300.0,
    accept_unknown: Accept = None,
    overrule: Overrule = None,
    queue: Queue = 0.0,
    wait: Wait = True,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take a step: forward for ``advance``, back for ``rollback``."""
    asked = StepAsked(
        forward=called.info_name == "advance",
        who=caller(),
        why=why,
        window=window,
        reasons=GateReasons.of(accept_unknown, overrule),
    )
    with working(JUDGING):
        checked = explained(lambda: judge_step(asked, record=not dry_run))
    if not as_json:
        show_gates(checked)
    in_the_way = asked.reasons.in_the_way(checked.results)
    if in_the_way and not (queue and waiting_helps(in_the_way)):
        refuse(checked, in_the_way, status=status_of(in_the_way), as_json=as_json)
    if dry_run:
        _preview(checked, in_the_way, as_json=as_json)
        return
    if not yes:
        before, after = _ends(checked)
        confirm(f"From phase {before.label} to {after.label}?")
    sure = Sure(yes=yes, queue=queue, as_json=as_json)
    try:
        checked = explained(lambda: begin_step(asked, checked, sure))
    except GatesStayedRed as error:
        refuse(error.checked, error.refused, status=error.status, as_json=as_json)
    if not as_json:
        out.print()
        out.print(tables.instructions(_ends(checked)[1], checked.step.note))
        out.print()
    ended = Ended.UNDER_WAY
    if wait:
        to = checked.step.to
        ended = explained(lambda: _see_through(asked.who, to, timeout))
    if as_json:
        out.json({**tables.step_data(checked), "taken": True, "ended": ended})
    raise typer.Exit(STATUS[ended] if wait else 0)


async def judge_step(asked: StepAsked, *, record: bool) -> Checked:
    """Return the next step and its gates. With ``record``, first record a complete step."""
    async with session() as (migration, _):
        look = await migration.look()
        state = (record and await migration.complete(look, who=asked.who)) or look.settled
        step = migration.next_step(state, forward=asked.forward)
        return await migration.check(step, window=asked.window)


async def begin_step(asked: StepAsked, checked: Checked, sure: Sure) -> Checked:
    """Begin the step once no gate stands in its way; return the gates' answers.

    Raises:
        GatesStayedRed: a gate still stood in the way after the time to wait, or waiting does not
            help.
    """
    queued = bool(asked.reasons.in_the_way(checked.results))
    async with session() as (migration, _):
        if queued:
            checked = await wait_for_gates(
                migration,
                checked,
                who=asked.who,
                why=asked.why,
                seconds=sure.queue,
                window=asked.window,
                stands_in_the_way=asked.reasons.in_the_way,
            )
        elif not sure.yes:
            # A gate may have turned red while the operator answered.
            checked = await _judged_again(asked, migration, checked, as_json=sure.as_json)
        reasons = asked.reasons.passed(checked.results)
        try:
            await migration.begin(
                checked, who=asked.who, why=asked.why, overrides=reasons, queued=queued
            )
        except Outage:
            warn(
                "the step may have begun: when PostgreSQL answers, 'crossfade migrate status' "
                "shows it, with the settings to restart the processes with",
                label="unknown",
            )
            raise
    return checked


async def _judged_again(
    asked: StepAsked, migration: Steps, checked: Checked, *, as_json: bool
) -> Checked:
    again = await migration.check(checked.step, window=asked.window)
    if turned := asked.reasons.in_the_way(again.results):
        refuse(again, turned, status=status_of(turned), as_json=as_json)
    return again


async def _see_through(who: str, to: int, seconds: float | None) -> Ended:
    try:
        return await see_through(who=who, to=to, timeout=seconds, goes_on=_WATCH)
    except asyncio.CancelledError:  # Ctrl-C
        warn(f"the step is under way, and {_WATCH} goes on from here", label="interrupted")
        raise


def _preview(checked: Checked, in_the_way: Sequence[GateResult], *, as_json: bool) -> None:
    waits = [result.name for result in in_the_way]
    if as_json:
        outcome: dict[str, Any] = {"taken": False, "ended": "dry_run", "wouldWaitFor": waits}
        out.json({**tables.step_data(checked), **outcome})
        return
    out.print()
    out.print(f"would wait for {', '.join(waits)}, and then say:" if waits else "would say:")
    out.print()
    out.print(tables.instructions(_ends(checked)[1], checked.step.note))


def show_gates(checked: Checked) -> None:
    """Print a step and its gates' answers."""
    origin, to = _ends(checked)
    step = (f"{origin.label} -> {to.label}", "bold")
    out.print(styled(step, f"   epoch {checked.look.state.epoch}"))
    out.print(tables.gates(checked.results))


def _ends(checked: Checked) -> tuple[Phase, Phase]:
    """Return the phases that the step leads from and to."""
    every = phases(checked.look.state.pair)
    return every[checked.step.origin], every[checked.step.to]


def refuse(
    checked: Checked, in_the_way: Sequence[GateResult], *, status: int, as_json: bool
) -> NoReturn:
    """Print the gates that stand in the way, with remedies; end the command with ``status``."""
    if as_json:
        out.json(refusal_data(checked))
    else:
        err.print()
    show_refused(in_the_way)
    raise typer.Exit(status)


def refusal_data(checked: Checked) -> dict[str, Any]:
    """Return a step that was not taken, for JSON."""
    return {**tables.step_data(checked), "taken": False, "ended": Ended.REFUSED}
