"""Tell in PostgreSQL which records of each log are there, and hear of it what others knew.

So a process that was just started notices that its log lost what an earlier one was told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from persistence.database.outage import stopped_within
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.log_ends import exchange_ends
from transport.contract import Transport
from transport.errors import TransportError
from transport.patience import answer
from transport.witnessed import Witnessed, witnessed

__all__ = ["LogEnds"]

_SECONDS = 2.0
_WITHIN = 1.0


class LogEnds:
    """Those of the logs of one process that can lose a tail without a sign of it."""

    def __init__(self, pool: Pool, logs: Sequence[Transport]) -> None:
        self._pool = pool
        self._logs = [(log, inner) for log in logs if (inner := witnessed(log))]
        self._told: dict[str, dict[int, str]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Exchange again and again until ``stop`` is set, and a last time then."""
        while not await stopped_within(stop, _SECONDS):
            await self.exchange()
        await self.exchange()

    async def exchange(self) -> None:
        """Exchange once; what can't be told now is told later."""
        for log, inner in self._logs:
            with suppress(TransportError, PersistenceError, TimeoutError):
                await self._exchange(log, inner)

    async def _exchange(self, log: Transport, inner: Witnessed) -> None:
        identity = await answer(log.identity(), within=_WITHIN)
        told = self._told.setdefault(identity, {})
        new = {p: at for p, at in inner.known_ends().items() if told.get(p) != at}
        ends = {p: (log.sort_key(at), at) for p, at in new.items()}
        known = await exchange_ends(self._pool, identity, ends, within=_WITHIN)
        told.update(new)
        inner.remind(known)
