"""Housekeeping: deletes old history, in one process at a time and a little at a time.

It deletes failed attempts and results of comparisons. Messages, receipts, dead letters and the
actions of operators are deleted by their owner only. It also computes the cause of dead letters
that have none yet, and renews the summaries of pages from which rows were deleted.
"""

from __future__ import annotations

import asyncio

import structlog

from persistence.database.outage import stopped_within
from persistence.database.pool import Connection, Pool
from persistence.database.translation import translated
from persistence.dead_letters.causes import give_causes
from persistence.errors import PersistenceError
from persistence.fleet.leader_lock import elected
from persistence.retention.stale_summaries import renew_summaries

__all__ = ["Housekeeper"]

_log = structlog.get_logger(__name__)

_HOUR = 3600.0
_FIRST = 60.0
"""Seconds after the start; until then a process takes up its work."""
_DAYS = 14  # whoever looks back on a failure or a comparison does it within two weeks
_AT_ONCE = 1000
_PAUSE = 0.1

# Only the first rows by id are looked at and locked: they are the oldest, so the time needs no
# index.
_ATTEMPTS = """
DELETE FROM delivery_attempts
WHERE failed_at < now() - make_interval(days => $1)
    AND id IN (SELECT id FROM delivery_attempts ORDER BY id LIMIT $2)
"""
_REPORTS = """
DELETE FROM parity_reports
WHERE id IN (SELECT id FROM parity_reports
    WHERE until < now() - make_interval(days => $1) ORDER BY until LIMIT $2)
"""


class Housekeeper:
    """Deletes rows older than 14 days every ``interval`` seconds, ``at_once`` in a statement."""

    def __init__(self, pool: Pool, *, interval: float = _HOUR, at_once: int = _AT_ONCE) -> None:
        self._pool = pool
        self._interval = interval
        self._at_once = at_once

    async def run(self, stop: asyncio.Event) -> None:
        """Do the housekeeping until ``stop`` is set."""
        wait = min(_FIRST, self._interval)
        while not await stopped_within(stop, wait):
            wait = self._interval
            try:
                async with elected(self._pool, "housekeeping") as connection:
                    if connection is not None:
                        await self._sweep(connection, stop)
            except (PersistenceError, TimeoutError) as error:
                _log.warning("Housekeeping failed; will retry", error=str(error))

    async def _sweep(self, connection: Connection, stop: asyncio.Event) -> None:
        for table, statement in (("delivery_attempts", _ATTEMPTS), ("parity_reports", _REPORTS)):
            deleted = 0
            while True:
                with translated():
                    rows = _count(await connection.execute(statement, _DAYS, self._at_once))
                deleted += rows
                if rows < self._at_once or await stopped_within(stop, _PAUSE):
                    break
            if deleted:
                _log.info("Housekeeping deleted old rows", table=table, rows=deleted, days=_DAYS)
        await self._causes(connection, stop)
        await renew_summaries(self._pool)

    async def _causes(self, connection: Connection, stop: asyncio.Event) -> None:
        total = 0
        while True:
            with translated():
                given = await give_causes(connection, self._at_once)
            total += given
            if given < self._at_once or await stopped_within(stop, _PAUSE):
                break
        if total:
            _log.info("Housekeeping recorded the causes of dead letters", letters=total)


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
