"""The lease that shows other processes whether a job's process still lives.

While a process runs jobs, one of its connections holds a lock in PostgreSQL under the process's own
name (``persistence.fleet.leader_lock.elected``). The lock ends with the connection, so a job whose
process was killed can be resumed at once. A process that is only suspended keeps its lock; its jobs
count as stalled after a minute of silence.

A process that lost its lock but lives (PostgreSQL was restarted) takes it again. If another process
has resumed its job meanwhile, its next write finds another owner in the row, and the job ends here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from uuid import UUID, uuid4

import structlog

from persistence.database.pool import Pool
from persistence.database.translation import translated
from persistence.errors import Outage, PersistenceError
from persistence.fleet.leader_lock import elected
from persistence.tables.states import JobState
from transport.backoff import Backoff

__all__ = ["Lease"]

_log = structlog.get_logger(__name__)

_HEARTBEAT_SECONDS = 5.0
# A job whose row is locked is at work, and reports itself.
_SEEN = """
UPDATE jobs SET seen_at = now()
WHERE id IN (
    SELECT id FROM jobs WHERE owner = $1 AND state = $2 AND id = ANY($3::uuid[])
    FOR UPDATE SKIP LOCKED
)
"""
_POOL_SECONDS = 10.0
"""How long to wait for a free connection of the pool."""


class Lease:
    """The lock of this process, held between the first ``take`` and the last ``release``.

    ``owner`` is the lock's name: the host, the process, and a part that is new each time, because
    the server may hold the last lock long after the network was cut. ``running`` has the jobs that
    are really at work here; only those are reported as alive.
    """

    def __init__(self, pool: Pool) -> None:
        self.owner = _name()
        self.running: set[UUID] = set()
        self._pool = pool
        self._jobs = 0
        self._holding: asyncio.Task[None] | None = None
        self._held: asyncio.Future[None] | None = None
        # Taking and giving back take turns: a lock that is being given back can't be taken.
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Hold the lock for one more job.

        Raises:
            Outage: PostgreSQL can't grant it now; it is not held for this job.
        """
        self._jobs += 1
        try:
            async with self._turn:
                if self._holding is None or self._holding.done():
                    self.owner = _name()
                    self._held = asyncio.get_running_loop().create_future()
                    self._holding = asyncio.create_task(self._hold(self._held))
                assert self._held is not None
                await asyncio.shield(self._held)
        except BaseException:
            await self.release()
            raise

    async def release(self) -> None:
        """Hold the lock for one job less; give it back after the last."""
        self._jobs -= 1
        async with self._turn:
            if self._jobs or self._holding is None:
                return
            holding, self._holding = self._holding, None
            holding.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([holding])

    async def _hold(self, held: asyncio.Future[None]) -> None:
        backoff = Backoff(0.5, _HEARTBEAT_SECONDS)
        while True:
            try:
                await self._beat(held)
            except PersistenceError as error:
                if not held.done():
                    held.set_exception(error)
                    return
                _log.warning("Lock of this process's jobs lost; will retry", error=str(error))
            await asyncio.sleep(backoff.next())

    async def _beat(self, held: asyncio.Future[None]) -> None:
        async with elected(self._pool, self.owner, within=_POOL_SECONDS) as connection:
            if connection is None:
                raise Outage("PostgreSQL still holds this process's lock for a lost connection")
            if not held.done():
                held.set_result(None)
            while True:
                await asyncio.sleep(_HEARTBEAT_SECONDS)
                with translated():
                    await connection.execute(
                        _SEEN, self.owner, JobState.RUNNING, list(self.running)
                    )


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
