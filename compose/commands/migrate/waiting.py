"""Waits for gates to turn green and for processes to be restarted, and shows both meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live

from compose.commands.migrate import tables
from compose.commands.migrate.session import session
from compose.output import err, out, warn
from compose.terminal import paragraph, styled
from migration_guide.errors import Overtaken
from migration_guide.gates.result import GateResult
from migration_guide.machine import SILENT_SECONDS
from migration_guide.phases import phases
from migration_guide.steps import Checked, Steps, waiting_helps, way_on
from persistence.errors import Outage
from persistence.fleet.migration_state import MigrationState
from transport.errors import TransportError, one_line

__all__ = [
    "STATUS",
    "Ended",
    "GatesStayedRed",
    "Judge",
    "see_through",
    "show_refused",
    "status_of",
    "wait_for_gates",
]

_LOOK_SECONDS = 0.5
_GATES_SECONDS = min(3.0, SILENT_SECONDS / 4)
_TOLD_SECONDS = 60.0
_REFUSED = 1
_UNKNOWN = 3
_TIMED_OUT = 4


class Ended(StrEnum):
    """How a step ended: with every process on the new phase, or not."""

    COMPLETE = "complete"
    OVERTAKEN = "overtaken"
    UNDER_WAY = "under_way"
    REFUSED = "refused"


STATUS = {
    Ended.COMPLETE: 0,
    Ended.OVERTAKEN: 1,
    Ended.UNDER_WAY: _TIMED_OUT,
}
"""The exit status for each outcome of a step that was taken."""


class GatesStayedRed(Exception):  # noqa: N818 - a state, not a mistake
    """The step was not taken: its time is up, or waiting does not help.

    Args:
        checked: the last answers of all gates.
        refused: the gates in the way if waiting does not help, to be printed; else empty.
    """

    def __init__(self, checked: Checked, refused: Sequence[GateResult] = ()) -> None:
        super().__init__("gates stayed red")
        self.checked = checked
        self.refused = refused

    @property
    def status(self) -> int:
        """The exit status."""
        return status_of(self.refused) or _TIMED_OUT


Judge = Callable[[Sequence[GateResult]], list[GateResult]]


async def wait_for_gates(
    migration: Steps,
    checked: Checked,
    *,
    who: str,
    why: str,
    seconds: float,
    window: float,
    stands_in_the_way: Judge,
) -> Checked:
    """Queue the step; return its gates' answers once no gate stands in the way any more.

    An outage of the database is waited out. A gate that only an operator can turn green is not.

    Raises:
        Outage: the step can't be queued, or the outage lasts longer than the time to wait.
        Overtaken: the queued step was cancelled, or another step was taken meanwhile.
        GatesStayedRed: the time is up, which was printed, or waiting does not help. The step is no
            longer queued.
    """
    in_the_way = stands_in_the_way(checked.results)
    if not waiting_helps(in_the_way):
        raise GatesStayedRed(checked, in_the_way)
    red = [result.name for result in in_the_way]
    state = await migration.machine.queue(
        checked.look.state.epoch, checked.step.to, who=who, why=why, seconds=seconds, red=red
    )
    deadline = time.monotonic() + seconds
    try:
        with _shown() as show:
            while True:
                show(_waiting(checked.results, deadline), _reasons(in_the_way))
                await asyncio.sleep(_GATES_SECONDS)
                try:
                    checked = await migration.check(checked.step, window=window)
                    in_the_way = stands_in_the_way(checked.results)
                    red = [result.name for result in in_the_way]
                    if not await migration.machine.still_queued(state.epoch, red):
                        raise Overtaken(state.epoch)
                except Outage:
                    if time.monotonic() > deadline:
                        raise
                    continue
                if not red and checked.look.state.epoch == state.epoch:
                    return checked
                if not waiting_helps(in_the_way) or time.monotonic() > deadline:
                    break
    except asyncio.CancelledError:  # Ctrl-C
        await migration.machine.cancel(state.epoch, who=who, why="interrupted")
        raise
    if not waiting_helps(in_the_way):
        why = f"waiting does not help: {_reasons(in_the_way)}"
        await migration.machine.cancel(state.epoch, who=who, why=why, expired=True)
        raise GatesStayedRed(checked, in_the_way)
    await migration.machine.cancel(state.epoch, who=who, why="its time was up", expired=True)
    err.print(
        styled(("not taken:", "red"), f" after {seconds:.0f} s still in the way: {', '.join(red)}")
    )
    raise GatesStayedRed(checked)


def status_of(results: Sequence[GateResult]) -> int:
    """Return the exit status: 0 if all gates are green, 1 if one is red, 3 if one is unknown."""
    verdicts = {result.verdict for result in results}
    return _REFUSED if "red" in verdicts else _UNKNOWN if "unknown" in verdicts else 0


def show_refused(in_the_way: Sequence[GateResult], *, prefix: str = "") -> None:
    """Print the gates that prevent a step, and the options that pass them (see ``way_on``)."""
    for result in in_the_way:
        text = f"{result.name} is {result.verdict}: {result.reason}"
        if err.notes_as_json:
            err.json_line({"level": "error", "message": text, "status": status_of(in_the_way)})
        else:
            err.print(styled(("refused:", "red"), f" {text}"))
    if options := way_on(in_the_way, prefix=prefix):
        err.print(styled(("to go on at your own risk, with a reason:", "dim")))
        err.print(paragraph(f"  {' '.join(options)}"))


async def see_through(
    *,
    who: str,
    to: int,
    timeout: float | None,  # noqa: ASYNC109
    goes_on: str,
    told_every: float = _TOLD_SECONDS,
) -> Ended:
    """Show the processes until all are on phase ``to``; then record the step as complete.

    An outage of the database is waited out: 'make up' restarts it with the processes. After
    ``timeout`` seconds, say which command ``goes_on`` from here, return, and leave the step under
    way. Where there is no terminal, a line says every ``told_every`` seconds why it waits.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with _shown(told_every) as show:
        while True:
            seen = await _look(who, to)
            if (done := seen.over) is not None:
                break
            show(Group(seen.processes, _yellow(seen.reason)), seen.reason)
            if deadline is not None and time.monotonic() > deadline:
                if not err.notes_as_json:
                    err.print(seen.processes)
                warn(seen.reason, label="waiting")
                err.print(styled(("not yet:", "yellow"), f" {goes_on} goes on from here"))
                return Ended.UNDER_WAY
            await asyncio.sleep(_LOOK_SECONDS)
    # After a rollback of the step, the phase can be ``to`` while that rollback is under way.
    if done.phase == to and not done.under_way:
        phase = phases(done.pair)[to].label
        line = styled(("complete:", "green"), f" every process is on phase {phase}")
        (err if err.notes_as_json else out).print(line)
        return Ended.COMPLETE
    err.print(styled(("overtaken:", "yellow"), f" {done.changed_by} took another step meanwhile"))
    return Ended.OVERTAKEN


class _StepSeen(NamedTuple):
    """One look: the state if the step is over; else the processes, and why it is not."""

    over: MigrationState | None
    reason: str = ""
    processes: RenderableType = ""


async def _look(who: str, to: int) -> _StepSeen:
    try:
        async with session(say=False) as (migration, _):
            look = await migration.look()
            if not look.state.under_way or look.state.target != to:
                return _StepSeen(look.state)
            if done := await migration.complete(look, who=who):
                return _StepSeen(done)
            processes = tables.processes(look.processes, look.state.pair, frozenset({to}))
            return _StepSeen(None, look.reached.reason, processes)
    except (Outage, TransportError) as error:
        return _StepSeen(None, one_line(error))
    except Overtaken:
        return _StepSeen(None, "looking again")


@contextmanager
def _shown(told_every: float = _TOLD_SECONDS) -> Iterator[Callable[[RenderableType, str], None]]:
    """Lend the function that shows a view, and the reason for waiting in it.

    A terminal always has the last view. Elsewhere (a file, another program) nobody would see why
    the command does not go on, so the reason is printed every ``told_every`` seconds.
    """
    told = time.monotonic()

    def show(view: RenderableType, reason: str) -> None:
        nonlocal told
        live.update(err.fitted(view), refresh=True)
        if not err.is_terminal and time.monotonic() - told > told_every:
            warn(reason, label="waiting")
            told = time.monotonic()

    with Live(console=err, auto_refresh=False, transient=True) as live:
        yield show


def _yellow(reason: str) -> RenderableType:
    return styled((f"waiting: {reason}", "yellow"))


def _waiting(results: Sequence[GateResult], deadline: float) -> RenderableType:
    left = max(0.0, deadline - time.monotonic())
    return Group(tables.gates(results), styled((f"queued; {left:.0f} s left", "yellow")))


def _reasons(in_the_way: Sequence[GateResult]) -> str:
    return "; ".join(f"{gate.name} is {gate.verdict}: {gate.reason}" for gate in in_the_way)
