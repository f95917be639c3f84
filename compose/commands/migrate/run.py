"""``crossfade migrate run``: takes every step to a log, each with its gates and restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import RenderableType

from compose.commands.migrate import tables
from compose.commands.migrate.plan import tell_unreached
from compose.commands.migrate.reasons import (
    AcceptAt,
    GateReasons,
    OverruleAt,
    reasons_by_phase,
)
from compose.commands.migrate.restarts import Restarts
from compose.commands.migrate.session import explained, session
from compose.commands.migrate.take import (
    StepAsked,
    Sure,
    Timeout,
    Window,
    begin_step,
    judge_step,
    show_gates,
)
from compose.commands.migrate.waiting import (
    STATUS,
    Ended,
    GatesStayedRed,
    see_through,
    show_refused,
)
from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.log_name import named_log
from compose.commands.options.operator_action import Why, caller
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, warn
from compose.terminal import confirm, styled
from migration_guide.errors import NotStarted
from migration_guide.phases import phases, step
from migration_guide.planning import MigrationPlan, plan, planned
from migration_guide.steps import MigrationStanding, Steps, turns_back
from migration_guide.way import Way, way_of_plan, way_to
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected

__all__ = ["run"]

_PRESENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.2


def run(
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="LOG", callback=named_log, help="The log to end at: the new or the old."
        ),
    ],
    why: Why,
    rolling: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND",
            help="Restarts a group of processes one by one, by a shell; repeat it for each group. "
            "Its environment has the settings of the phase.",
        ),
    ] = None,
    stay: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Stay in each phase at least this long.")
    ] = 0.0,
    patience: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="At each step, wait this long for gates that are not green; then end with exit "
            "status 4, and take no step. A gate that no waiting turns green ends it at once.",
        ),
    ] = 600.0,
    window: Window = 300.0,
    accept_unknown: AcceptAt = None,
    overrule: OverruleAt = None,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take every step to a log, and end where a gate stays red.

    It plans the migration if LOG is neither its old nor its new log. Without --rolling it prints
    the settings of each step, and waits until you have restarted the processes. The same command
    continues after an interruption. Exit status 0 if LOG was reached, 4 if a gate or a restart took
    too long, 1 or 3 at once if a gate is red or unknown until you do what its reason names.
    """
    runner = _Runner(
        to=to,
        who=caller(),
        why=why,
        window=window,
        reasons=reasons_by_phase(accept_unknown, overrule),
        stay=stay,
        patience=patience,
        timeout=timeout,
        restarts=Restarts(rolling or []),
        as_json=as_json,
    )
    way = explained(lambda: runner.look(record=not dry_run))
    told: dict[str, Any] = {
        "from": way.pair.old,
        "to": way.pair.new,
        "phases": [way.at, *way.ahead],
    }
    if way.is_over:
        _say(
            told,
            "nothing_to_do",
            styled(("nothing to do:", "green"), f" {to} is written and read"),
            as_json=as_json,
        )
        return
    if not as_json:
        _show(way, runner.restarts)
    if dry_run:
        _say(told, "dry_run", as_json=as_json)
        return
    if not yes:
        confirm(f"Take {len(way.ahead) + way.begun} steps, to {to}?")
    try:
        ended = explained(lambda: runner.run(way))
        status = STATUS[ended]
    except GatesStayedRed as error:
        ended, status = Ended.REFUSED, error.status
        told["step"] = tables.step_data(error.checked)
        show_refused(error.refused, prefix=f"{error.checked.step.to}:")
    done = styled(("done:", "green"), f" {to} is written and read")
    _say(told, ended, done if ended is Ended.COMPLETE else None, as_json=as_json)
    raise typer.Exit(status)


class _Runner(NamedTuple):
    """Takes the steps of the requested migration."""

    to: str
    who: str
    why: str
    window: float
    reasons: Mapping[int, GateReasons]
    stay: float
    patience: float
    timeout: float | None
    restarts: Restarts
    as_json: bool

    async def look(self, *, record: bool) -> Way:
        """Return the remaining steps. With ``record``, first record a step that is complete."""
        async with session() as (migration, _):
            look = await _first_look(migration)
            if record and await migration.complete(look, who=self.who):
                look = await migration.look()
            if way := way_to(look.settled, self.to):
                return way
            chosen = await self._planned(look)
            tell_unreached(chosen)
            return way_of_plan(chosen.pair)

    async def run(self, way: Way) -> Ended:
        """Take every step, until one does not complete.

        Raises:
            GatesStayedRed: a gate did not turn green in time, or waiting does not help.
        """
        with self._told_if_interrupted(way):
            # Two at once would restart two processes of a group at once. The lock goes with its
            # connection, also in a failover; then the epoch alone keeps them apart.
            async with session(say=False) as (_, pool), elected(pool, "migrate run") as lock:
                if lock is None:
                    fail(
                        "another run of this command is at work: 'crossfade migrate watch' "
                        "shows what it does; to end it, interrupt it where it runs"
                    )
                return await self._walk(way)

    async def _walk(self, way: Way) -> Ended:
        await self._plan()
        ended = Ended.COMPLETE
        if way.begun:
            now = await self.look(record=False)
            if (now.pair, now.at, now.begun) != (way.pair, way.at, True):
                return _overtaken()
            ended = await self._restart(way, way.at)
        for phase in way.ahead:
            if ended is not Ended.COMPLETE:
                break
            await asyncio.sleep(self.stay)
            reasons = self.reasons.get(phase, GateReasons())
            asked = StepAsked(way.forward, self.who, self.why, self.window, reasons)
            checked = await judge_step(asked, record=True)
            if (checked.look.state.pair, checked.step.to) != (way.pair, phase):
                return _overtaken()  # the migration's next step has changed
            if not self.as_json:
                show_gates(checked)
            await begin_step(
                asked, checked, Sure(yes=True, queue=self.patience, as_json=self.as_json)
            )
            ended = await self._restart(way, phase)
        return ended

    async def _plan(self) -> None:
        """Record the plan if the log is not part of the recorded migration."""
        async with session(say=False) as (migration, _):
            look = await migration.look()
            if way_to(look.state, self.to) is None:
                await plan(migration, await self._planned(look), who=self.who, why=self.why)

    async def _planned(self, look: MigrationStanding) -> MigrationPlan:
        return await planned(look, self.to, client_settings(say=False).transport)

    async def _restart(self, way: Way, phase: int) -> Ended:
        """Restart the processes, or print how to; wait until all are on ``phase``."""
        if self.restarts.commands:
            await self.restarts.run(way.pair, phase, forward=way.forward)
        elif not self.as_json:
            out.print(tables.instructions(phases(way.pair)[phase]))
        return await see_through(
            who=self.who, to=phase, timeout=self.timeout, goes_on="the same command"
        )

    @contextmanager
    def _told_if_interrupted(self, way: Way) -> Iterator[None]:
        """After Ctrl-C or an outage of the database, print how to continue the migration."""
        try:
            yield
        except (asyncio.CancelledError, Outage):
            warn(
                "'crossfade migrate status' shows where the migration stands. The same command "
                f"goes on from there; {turns_back(forward=way.forward)} turns a step back",
                label="interrupted",
            )
            raise


async def _first_look(migration: Steps) -> MigrationStanding:
    """Return the standing, after giving new processes time for their first heartbeat."""
    deadline = time.monotonic() + _PRESENCE_SECONDS
    waits = False
    while True:
        try:
            look = await migration.look()
        except NotStarted:
            if time.monotonic() > deadline:
                raise
        else:
            if look.processes or time.monotonic() > deadline:
                return look
        if not waits:
            err.print(styled(("waiting: no process has said yet what it runs", "dim")))
            waits = True
        await asyncio.sleep(_LOOK_SECONDS)


def _overtaken() -> Ended:
    err.print(styled(("overtaken:", "yellow"), " somebody took another step meanwhile"))
    return Ended.OVERTAKEN


def _say(
    told: dict[str, Any], ended: str, line: RenderableType | None = None, *, as_json: bool
) -> None:
    """Print the outcome: JSON, or ``line`` if there is one."""
    if as_json:
        out.json({**told, "ended": ended})
    elif line is not None:
        out.print(line)


def _show(way: Way, restarts: Restarts) -> None:
    table = Grid("step", "gates")
    table.add_column("settings", prose=True)
    for before, after in way.steps():
        gates = step(before.number, after.number).gates
        given = " ".join(f"{k}={v}" for k, v in after.choice.environment().items() if v)
        table.add_row(f"{before.label} -> {after.label}", ", ".join(gates), given)
    out.print(table)
    if way.begun:
        out.print(
            f"The step to phase {phases(way.pair)[way.at].label} is under way: it is ended first."
        )
    for command in restarts.commands:
        out.print(styled(("restarts by:", "dim"), f" {command}"))
