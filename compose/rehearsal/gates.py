"""What stands between two phases: the migration's own gates, as ``crossfade migrate`` asks them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from migration_guide.backfill.request import Request
from migration_guide.backfill.run import Backfill, Busy
from migration_guide.choice import CHOICES
from migration_guide.errors import MigrationError
from migration_guide.steps import Checked, Steps, refused
from persistence.database import Pool, connect
from persistence.errors import Outage
from persistence.settings import PersistenceSettings
from transport.errors import TransportError
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Gate", "GateRedError", "Gates", "Open"]

_AGAIN = 1.0
_WHO = "rehearsal"

T = TypeVar("T")
_Attempt = Callable[[Pool, int], Coroutine[Any, Any, T]]


class GateRedError(Exception):
    """A step was refused for as long as there was patience. ``gates``: what each said last."""

    def __init__(self, why: str, gates: list[dict[str, Any]]) -> None:
        super().__init__(why)
        self.gates = gates


class Gate(Protocol):
    """Asked before the processes are restarted to a phase, and told when all of them were."""

    async def pass_to(self, phase: int) -> list[dict[str, Any]]:
        """Return what each gate said once all are green. Raises :class:`GateRedError`."""

    async def reached(self, phase: int) -> None:
        """Return once it is known that every process runs it. Raises :class:`GateRedError`."""


class Open:
    """No gate at all: the settings are changed by hand, and the checker alone decides."""

    async def pass_to(self, phase: int) -> list[dict[str, Any]]:
        """Let everything pass."""
        del phase
        return []

    async def reached(self, phase: int) -> None:
        """Ask nobody."""


class Gates:
    """``advance`` and ``rollback`` as an operator takes them, waiting for red gates. No overrides.

    Where a gate says that copies were dropped, they are backfilled.

    ``patience`` is how many seconds a gate may stay red, ``window`` how far back parity is asked.
    """

    def __init__(
        self, database_url: str, settings: TransportSettings, *, patience: float, window: float
    ) -> None:
        self._persistence = PersistenceSettings(database_url=database_url)
        self._settings = settings
        self._patience = patience
        self._window = window
        self.backfills = 0
        self._said: list[dict[str, Any]] = []

    async def pass_to(self, phase: int) -> list[dict[str, Any]]:
        """Begin the step once no gate stands in its way; return what each said."""
        return await self._until(self._begin, phase, f"the step to phase {phase}")

    async def reached(self, phase: int) -> None:
        """Complete the step once every process is seen on the phase."""
        await self._until(self._complete, phase, f"every process on phase {phase}")

    async def _until(self, attempt: _Attempt[T], phase: int, what: str) -> T:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                pool = await connect(self._persistence)
                try:
                    return await attempt(pool, phase)
                finally:
                    pool.terminate()
            except (
                _NotYetError,
                Busy,
                MigrationError,
                Outage,
                TransportError,
                TimeoutError,
            ) as error:
                if time.monotonic() > deadline:
                    why = " ".join(str(error).split())
                    raise GateRedError(
                        f"{what}, after {self._patience:.0f} s: {why}", self._said
                    ) from None
            await asyncio.sleep(_AGAIN)

    async def _begin(self, pool: Pool, phase: int) -> list[dict[str, Any]]:
        steps = Steps(pool, self._settings)
        look = await steps.look()
        state = await steps.complete(look, who=_WHO) or look.state
        step = steps.next_step(state, forward=phase > state.phase)
        checked: Checked = await steps.check(step, window=self._window)
        self._said = [msgspec.to_builtins(result) for result in checked.results]
        if any(one.name == "dropped" and one.verdict == "red" for one in checked.results):
            await self._backfill(pool, step.origin)
        if red := refused(checked.results, accepted={}, overridden={}):
            raise _NotYetError(
                "; ".join(f"{one.name} is {one.verdict}: {one.reason}" for one in red)
            )
        await steps.begin(checked, who=_WHO, why="rehearsal", overrides={})
        return self._said

    async def _backfill(self, pool: Pool, phase: int) -> None:
        """Do as the gate says: ``crossfade migrate backfill``."""
        choice = CHOICES[phase]
        assert choice.shadow is not None
        self.backfills += 1
        request = Request(by=_WHO)
        async with (
            create(choice.transport, self._settings) as source,
            create(choice.shadow, self._settings) as target,
            asyncio.timeout(self._patience),
        ):
            await Backfill(pool, source, target, request).run()

    async def _complete(self, pool: Pool, phase: int) -> None:
        steps = Steps(pool, self._settings)
        look = await steps.look()
        if look.state.settled and look.state.phase == phase:
            return
        if await steps.complete(look, who=_WHO) is None:
            raise _NotYetError(look.reached.reason)


class _NotYetError(Exception):
    pass
