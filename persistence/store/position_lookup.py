"""Look up positions of partitions: one query for all that ask at about the same time.

An idle partition checks its position every few seconds, and 256 partitions check together. A query
for each would cost an idle process more than everything else.
"""

from __future__ import annotations

import asyncio

from persistence.database.pool import Pool, using
from persistence.store.positions import known_positions

__all__ = ["PositionLookup"]

_GATHER_SECONDS = 0.02


class PositionLookup:
    """Asks PostgreSQL for positions: one query for all waiting partitions of a log."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asked: dict[str, dict[int, asyncio.Future[str | None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def of(self, transport: str, partition: int) -> str | None:
        """Return a partition's position; ``None`` if it is not known.

        Raises:
            Outage: the database can't answer now.
        """
        if transport not in self._asked:
            self._asked[transport] = {}
            task = asyncio.create_task(self._ask(transport))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        asked = self._asked[transport]
        if partition not in asked:
            asked[partition] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(asked[partition])

    async def _ask(self, transport: str) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        asked = self._asked.pop(transport)
        try:
            async with using(self._pool) as connection:
                known = await known_positions(connection, transport, list(asked))
        except Exception as error:  # noqa: BLE001 - handed to the callers
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # the caller may be gone: this marks the error as retrieved
        else:
            for partition, answer in asked.items():
                answer.set_result(known.get(partition))
