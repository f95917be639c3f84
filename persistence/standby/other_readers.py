"""Find out whether workers of other processes read a log that is not consumed here.

This happens while a step changes the log that is read: processes with the old settings read one
log, and those with the new settings the other. Then workers and standbys share each log's
partitions, and nobody reads a conversation whose home in both logs belongs to a standby.
"""

from __future__ import annotations

import asyncio
import time

from persistence.database.pool import Pool, using
from persistence.errors import Outage
from persistence.fleet.processes import LIVE_SECONDS

__all__ = ["OtherReaders"]

_LOOK_SECONDS = 0.5

# The ``owned`` of a process without consumers names no log.
_READERS = """
SELECT EXISTS (
    SELECT FROM processes
    WHERE consume_from = $1 AND owned ? $1 AND abs(extract(epoch FROM now() - seen_at)) <= $2
)
"""


class OtherReaders:
    """Asks which log the live processes consume, once for all partitions of ``log``."""

    def __init__(self, pool: Pool, log: str) -> None:
        self._pool = pool
        self._log = log
        self._turn = asyncio.Lock()
        self._looked = float("-inf")
        self._found = False

    async def are_there(self) -> bool:
        """Return whether a live process consumes the log, as of half a second ago or later.

        ``False`` also if PostgreSQL can't answer now.
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
