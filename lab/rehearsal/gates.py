"""The migration's gates between two phases, checked as ``crossfade migrate`` checks them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

import msgspec

from lab.rehearsal.timeline import GateMark, Waited
from migration_guide.backfill.request import Request
from migration_guide.backfill.run import Backfill
from migration_guide.errors import MigrationError
from migration_guide.planning import plan, planned
from migration_guide.steps import Checked, Steps, refused
from persistence.database.pool import Pool, connect
from persistence.errors import Outage
from persistence.fleet.log_choice import FIRST_PAIR, Choice, LogPair, choices
from persistence.jobs.table import JobRunning
from persistence.settings import PersistenceSettings
from transport.errors import TransportError, one_line
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["GateRedError", "Gates", "Open", "RehearsalGate"]

_WHO = "rehearsal"
# A backfill compares both logs from their beginnings, while the load keeps the machine busy.
_BACKFILL_SECONDS = 1800.0

_Attempt = Callable[[Pool], Coroutine[Any, Any, dict[str, str]]]


class GateRedError(Exception):
    """A gate refused a step until its time limit."""


class RehearsalGate(Protocol):
    """Decides when the processes may be restarted to a phase, and when all of them run it."""

    async def pass_to(self, phase: int, mark: GateMark) -> None:
        """Wait until the step to ``phase`` is allowed.

        Args:
            phase: The phase.
            mark: Gets each gate's last answer, and how long the step waited for which gate.

        Raises:
            GateRedError: a gate stayed red.
        """

    async def reached(self, phase: int) -> None:
        """Wait until every process is seen to run ``phase``.

        Raises:
            GateRedError: a process does not run it in time.
        """


class Open:
    """No gates: phases change without ``crossfade migrate``, and the checker judges the outcome."""

    async def pass_to(self, phase: int, mark: GateMark) -> None:
        """Return at once."""
        del phase, mark

    async def reached(self, phase: int) -> None:
        """Return at once."""


class Gates:
    """Takes the steps ``advance`` and ``rollback`` as an operator would: waits, never overrides.

    If a gate reports dropped copies, it runs a backfill.

    Args:
        database_url: The service's database.
        settings: The settings of both logs.
        patience: Seconds that a gate may stay red.
        window: Seconds of the past that the parity gate covers.
        pair: The logs of the migration; planned if another migration is recorded.
        every: Seconds from one try to the next.
    """

    def __init__(
        self,
        database_url: str,
        settings: TransportSettings,
        *,
        patience: float,
        window: float,
        pair: LogPair = FIRST_PAIR,
        every: float = 0.3,
    ) -> None:
        self._persistence = PersistenceSettings(database_url=database_url)
        self._settings = settings
        self._patience = patience
        self._window = window
        self._every = every
        self._pair = pair
        self.backfills = 0

    async def pass_to(self, phase: int, mark: GateMark) -> None:
        """Begin the step once every gate allows it."""
        await self._until(partial(self._begin, phase, mark), f"the step to phase {phase}", mark)

    async def reached(self, phase: int) -> None:
        """Complete the step once every process is seen to run the phase."""
        await self._until(partial(self._complete, phase), f"every process on phase {phase}")

    async def _until(self, attempt: _Attempt, what: str, mark: GateMark | None = None) -> None:
        began = checked_at = time.monotonic()
        while True:
            reasons = await self._refused(attempt)
            if not reasons:
                return
            if mark is not None:
                _note(mark.waited, reasons, time.monotonic() - checked_at)
            checked_at = time.monotonic()
            if checked_at > began + self._patience:
                why = "; ".join(f"{name} is {reason}" for name, reason in reasons.items())
                raise GateRedError(f"{what}, after {self._patience:.0f} s: {why}")
            await asyncio.sleep(self._every)

    async def _refused(self, attempt: _Attempt) -> dict[str, str]:
        """Try once; return the reason of each gate that refused, by name; empty if it was done."""
        try:
            pool = await connect(self._persistence)
            try:
                return await attempt(pool)
            finally:
                pool.terminate()
        except (JobRunning, MigrationError, Outage, TransportError, TimeoutError) as error:
            return {"step": f"not taken: {one_line(error)}"}

    async def _begin(self, phase: int, mark: GateMark, pool: Pool) -> dict[str, str]:
        steps = Steps(pool, self._settings)
        look = await steps.look()
        if look.state.pair != self._pair:
            chosen = await planned(look, self._pair.names[-1], self._settings)
            await plan(steps, chosen, who=_WHO, why="rehearsal")
            look = await steps.look()
        state = await steps.complete(look, who=_WHO) or look.state
        step = steps.next_step(state, forward=phase > state.phase)
        checked: Checked = await steps.check(step, window=self._window)
        mark.gates = [msgspec.to_builtins(result) for result in checked.results]
        if any(gate.name == "dropped" and gate.verdict == "red" for gate in checked.results):
            await self._backfill(pool, choices(checked.look.state.pair)[step.origin])
        if red := refused(checked.results, accepted={}, overridden={}):
            return {gate.name: f"{gate.verdict}: {gate.reason}" for gate in red}
        await steps.begin(checked, who=_WHO, why="rehearsal", overrides={})
        return {}

    async def _backfill(self, pool: Pool, choice: Choice) -> None:
        """Run a backfill, as ``crossfade migrate backfill`` does."""
        assert choice.shadow is not None
        self.backfills += 1
        request = Request(by=_WHO)
        async with (
            create(choice.transport, self._settings) as source,
            create(choice.shadow, self._settings) as target,
        ):
            backfill = Backfill(pool, source, target, request)
            try:
                async with asyncio.timeout(_BACKFILL_SECONDS):
                    await backfill.run()
            except TimeoutError as error:
                text = f"the backfill did not end in {_BACKFILL_SECONDS:.0f} s: {backfill.status}"
                raise TimeoutError(text) from error

    async def _complete(self, phase: int, pool: Pool) -> dict[str, str]:
        steps = Steps(pool, self._settings)
        look = await steps.look()
        if not look.state.under_way and look.state.phase == phase:
            return {}
        if await steps.complete(look, who=_WHO) is None:
            return {"processes": f"not there yet: {look.reached.reason}"}
        return {}


def _note(waited: list[Waited], reasons: dict[str, str], seconds: float) -> None:
    """Add ``seconds`` to the wait for each of these gates, and keep its latest reason."""
    for name, reason in reasons.items():
        entry = next((wait for wait in waited if wait.name == name), None)
        if entry is None:
            waited.append(entry := Waited(name, 0.0, reason))
        entry.seconds, entry.reason = round(entry.seconds + seconds, 3), reason
