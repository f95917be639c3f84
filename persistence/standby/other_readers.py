"""Whether workers of other processes read a log that is not consumed here.

So it is while a step changes which log is read: processes of before read the one log, and those of
after it the other. Each log's partitions are shared by workers and standbys then, and a
conversation whose home in either log is a standby's is read by nobody.
"""

from __future__ import annotations

import asyncio
import time

from persistence.database.pool import Pool, using
from persistence.errors import Outage
from persistence.fleet.processes import LIVE_SECONDS

__all__ = ["OtherReaders"]

_LOOK_SECONDS = 0.5

# Of a process without consumers, ``owned`` names no log.
_READERS = """
SELECT EXISTS (
    SELECT FROM processes
    WHERE consume_from = $1 AND owned ? $1 AND abs(extract(epoch FROM now() - seen_at)) <= $2
)
"""


class OtherReaders:
    """Asks which log the live processes consume; for all partitions of ``log`` together."""

    def __init__(self, pool: Pool, log: str) -> None:
        self._pool = pool
        self._log = log
        self._turn = asyncio.Lock()
        self._looked = float("-inf")
        self._found = False

    async def are_there(self) -> bool:
        """Return whether a live process consumes the log, as of half a second ago or later.

        ``False`` also where PostgreSQL can't tell now.
        """
        async with self._turn:
            if time.monotonic() - self._looked >= _LOOK_SECONDS:
                try:
                    async with using(self._pool) as connection:
                        found = await connection.fetchval(_READERS, self._log, LIVE_SECONDS)
                except Outage:
                    return False
                self._found, self._looked = bool(found), time.monotonic()
        return self._found
