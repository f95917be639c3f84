"""``crossfade migrate watch``: phase, processes, both logs and the gates, live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from compose.commands.migrate import tables
from compose.commands.migrate.session import explained, session
from compose.commands.options.common import JsonLines, Wide
from compose.commands.options.operator_action import caller
from compose.output import out
from compose.terminal import styled
from migration_guide.errors import NotAStep, Overtaken
from migration_guide.gates.result import GateResult
from migration_guide.phases import phases
from migration_guide.steps import MigrationStanding, Steps
from persistence.errors import Outage
from transport.errors import TransportError, one_line

__all__ = ["watch"]

_REFRESH = 1.0
_GATES_SECONDS = 10.0  # gates read both logs, so they are not checked at each refresh


def watch(
    *,
    back: Annotated[bool, typer.Option("--back", help="The gates of the step back.")] = False,
    window: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How far back parity is compared.")
    ] = 60.0,
    as_json: JsonLines = False,
    _wide: Wide = False,
) -> None:
    """Show phase, processes, shadow and gates, until Ctrl-C.

    If the present step completes meanwhile, the command records that.
    """

    async def main() -> None:
        seen = _SeenState(forward=not back, window=window)
        if as_json:
            while True:
                out.json(await seen.data(), indent=None)
                await asyncio.sleep(_REFRESH)
        if not out.is_terminal:
            while True:
                out.print(Group(await seen.look(), ""))
                await asyncio.sleep(_REFRESH)
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(out.fitted(await seen.look()), refresh=True)
                await asyncio.sleep(_REFRESH)

    explained(main)


class _SeenState:
    """The latest standing of the migration, and the gates, which are checked less often."""

    def __init__(self, *, forward: bool, window: float) -> None:
        self._forward = forward
        self._window = window
        self._gates: Sequence[GateResult] = ()
        self._title = ""
        self._asked = (0.0, 0)

    async def look(self) -> RenderableType:
        """Return the present view; during an outage, its error."""
        try:
            async with session(say=False) as (migration, _):
                return await self._picture(migration)
        except (Outage, TransportError, Overtaken) as error:
            return styled((f"waiting: {one_line(error)}", "yellow"))

    async def data(self) -> dict[str, Any]:
        """Return the standing for ``--json``; during an outage, the error in ``waiting``."""
        try:
            async with session(say=False) as (migration, _):
                look = await self._take(migration)
                return {
                    **tables.plain_data(tables.as_data(look)),
                    "gates": tables.plain_data(self._gates),
                }
        except (Outage, TransportError, Overtaken) as error:
            return {"waiting": one_line(error)}

    async def _take(self, migration: Steps) -> MigrationStanding:
        look = await migration.look()
        if await migration.complete(look, who=caller()):
            look = await migration.look()
        if not look.state.under_way:
            await self._ask(migration, look.state.epoch)
        else:
            self._gates = ()  # while a step is under way, the next one can't be judged
        return look

    async def _picture(self, migration: Steps) -> RenderableType:
        look = await self._take(migration)
        parts: list[RenderableType] = [
            tables.head(look.state),
            "",
            tables.processes(look.processes, look.state.pair, look.state.expected),
        ]
        if look.state.under_way or look.reached.verdict == "red":
            parts += ["", tables.under_way(look)]
        if self._gates:
            parts += ["", styled((self._title, "bold")), tables.gates(self._gates)]
        return Group(*parts)

    async def _ask(self, migration: Steps, epoch: int) -> None:
        asked, on = self._asked
        if epoch == on and time.monotonic() - asked < _GATES_SECONDS:
            return
        try:
            state = (await migration.look()).state
            step = migration.next_step(state, forward=self._forward)
        except NotAStep:
            self._gates = ()
        else:
            checked = await migration.check(step, window=self._window)
            self._gates = checked.results
            every = phases(state.pair)
            self._title = f"{every[step.origin].label} -> {every[step.to].label}"
        self._asked = (time.monotonic(), epoch)
