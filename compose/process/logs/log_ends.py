"""Detects records that a log lost, by the last offsets that processes share in PostgreSQL.

Each process notes the last record of each partition that its log confirmed, and looks in its log
for the records that others noted. So a process that was just started notices that the log lost
records that an earlier process knew. It first looks for the noted records and then notes its own,
which are newer: noted first, they would replace the others, and the loss would stay unnoticed.
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
    """Notes and compares the ends of a process's logs; skips logs that can't lose their tail.

    Args:
        pool: Connections to the database that has the noted offsets.
        logs: The logs of this process. Those that implement ``KnowsEnds`` are compared.
    """

    def __init__(self, pool: Pool, logs: Sequence[Transport]) -> None:
        self._pool = pool
        self._logs = [(log, inner) for log in logs if (inner := knows_ends(log))]

    async def run(self, stop: asyncio.Event) -> None:
        """Exchange every two seconds until ``stop`` is set, and once more after that."""
        while not await stopped_within(stop, _SECONDS):
            await self.exchange()
        await self.exchange()

    async def exchange(self) -> None:
        """Compare and note the ends once; skip logs that don't answer within a second."""
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
