"""Tell in PostgreSQL which records of each log are there, and hear of it what others knew.

So a process that was just started notices that its log lost what an earlier one was told of. It
looks for what others knew before it tells of its own, which is newer: that would take its place,
and nobody could notice any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from persistence.database.outage import stopped_within
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.log_ends import End, known_ends, note_ends
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import TransportError
from transport.features.known_ends import KnowsEnds, knows_ends

__all__ = ["LogEnds"]

_SECONDS = 2.0
_WITHIN = 1.0


class LogEnds:
    """Those of the logs of one process that can lose a tail without a sign of it."""

    def __init__(self, pool: Pool, logs: Sequence[Transport]) -> None:
        self._pool = pool
        self._logs = [(log, inner) for log in logs if (inner := knows_ends(log))]

    async def run(self, stop: asyncio.Event) -> None:
        """Exchange again and again until ``stop`` is set, and a last time then."""
        while not await stopped_within(stop, _SECONDS):
            await self.exchange()
        await self.exchange()

    async def exchange(self) -> None:
        """Exchange once; what can't be told now is told later."""
        await asyncio.gather(*(self._exchange(log, inner) for log, inner in self._logs))

    async def _exchange(self, log: Transport, inner: KnowsEnds) -> None:
        with suppress(TransportError, PersistenceError, TimeoutError):
            identity = await answer(log.identity(), within=_WITHIN)
            known = await known_ends(self._pool, identity, within=_WITHIN)
            await answer(inner.look_for(known), within=_WITHIN)
            new = [
                End(partition, log.sort_key(at), at, known.get(partition))
                for partition, at in inner.known_ends().items()
                if partition not in known or log.sort_key(at) > log.sort_key(known[partition])
            ]
            if new:
                await note_ends(self._pool, identity, new, within=_WITHIN)
