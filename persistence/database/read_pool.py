"""The pool of the server that pages are read from. While it fails, the primary stands in."""

from __future__ import annotations

import asyncio
from typing import cast

import asyncpg
import structlog

from persistence.database.pool import Connection, Pool, using
from persistence.database.replay_lag import has_anothers_messages, replay_lag
from persistence.database.translation import translate
from persistence.errors import PersistenceError
from transport.outage_watch import OutageWatch

__all__ = ["ReadPool"]

_log = structlog.get_logger(__name__)

_WITHIN = 1.0
"""Seconds to wait for the read server; a route has five, and the primary needs some of them."""
_PAUSE_SECONDS = 10.0
_AT_ONCE = 2
"""Connections of the primary for pages: workers need the others."""


class ReadPool:
    """Lends connections to ``reads``; while that server gives none, two at once to ``primary``.

    A server that gave none is tried again after ten seconds.
    """

    def __init__(self, reads: Pool, primary: Pool) -> None:
        self._reads, self._primary = reads, primary
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._of_primary: set[Connection] = set()
        self._ask_again_at = float("-inf")
        self._outage = OutageWatch()

    @property
    def pool(self) -> Pool:
        """This, for functions that take a pool: it has what ``using`` calls."""
        return cast("Pool", self)

    async def acquire(self, *, timeout: float | None = None) -> Connection:  # noqa: ASYNC109 - asyncpg's
        """Return a connection, for ``release`` to take back."""
        if asyncio.get_running_loop().time() >= self._ask_again_at:
            try:
                found = await self._reads.acquire(timeout=min(_WITHIN, timeout or _WITHIN))
            except Exception as error:  # noqa: BLE001 - the primary may have none of it
                self._failed(error)
            else:
                self._answered()
                return found
        async with asyncio.timeout(timeout):
            await self._places.acquire()
            try:
                lent = await self._primary.acquire()
            except BaseException:
                self._places.release()
                raise
        self._of_primary.add(lent)
        return lent

    async def release(self, connection: Connection) -> None:
        """Take a connection back."""
        if connection in self._of_primary:
            self._of_primary.discard(connection)
            self._places.release()
            await self._primary.release(connection)
            return
        gave_no_answer = _is_closed(connection)
        await self._reads.release(connection)
        if gave_no_answer:  # nor will the others that a silent server left open
            await self._reads.expire_connections()

    async def expire_connections(self) -> None:
        """Have the connections of both closed when they are free."""
        await self._reads.expire_connections()
        await self._primary.expire_connections()

    async def trouble(self, *, within: float) -> str | None:
        """Return why the server gives no answer; ``None`` if it does."""
        try:
            async with asyncio.timeout(within), using(self._reads, within=within) as connection:
                await connection.fetchval("SELECT 1")
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error)
        self._answered()
        return None

    async def lag(self, *, within: float) -> float | None:
        """Return by how many seconds the server is behind the primary; ``None`` if unknown now."""
        try:
            return await replay_lag(self._reads, self._primary, within=within)
        except (PersistenceError, TimeoutError):
            return None

    async def has_anothers_messages(self, *, within: float) -> bool:
        """Return whether the server is known to be of another service."""
        try:
            return await has_anothers_messages(self._reads, self._primary, within=within)
        except (PersistenceError, TimeoutError):
            return False

    def _failed(self, error: Exception) -> str:
        self._ask_again_at = asyncio.get_running_loop().time() + _PAUSE_SECONDS
        why = str(translate(error)).replace("DATABASE_URL", "DATABASE_READ_URL")
        if self._outage.failed():
            _log.warning(
                "The server of DATABASE_READ_URL gives no answer: pages and the console's search "
                "come from that of DATABASE_URL",
                error=why,
                at_once=_AT_ONCE,
            )
        return why

    def _answered(self) -> None:
        self._ask_again_at = float("-inf")
        if past := self._outage.succeeded():
            _log.info("Pages come from DATABASE_READ_URL again", seconds=past.seconds)


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool took it back when it closed
        return True
