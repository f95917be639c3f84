"""How far partitions are settled, asked for all that ask in one moment.

A partition looks each few seconds while it has nothing to do, and 256 of them look together. A
query for each would cost an idle process more than everything else.
"""

from __future__ import annotations

import asyncio

from persistence.database.pool import Pool, using
from persistence.store.positions import known_positions

__all__ = ["PositionLookup"]

_GATHER_SECONDS = 0.02


class PositionLookup:
    """Asks PostgreSQL for positions, those of one log together."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asked: dict[str, dict[int, asyncio.Future[str | None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def of(self, transport: str, partition: int) -> str | None:
        """Return up to where a partition is settled, ``None`` where nothing is known.

        Raises:
            Outage: the database can't tell now.
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
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # who asked may be gone: then nobody else retrieves it
        else:
            for partition, answer in asked.items():
                answer.set_result(known.get(partition))
