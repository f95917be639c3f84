"""Connections that are kept between queries, for callers with hundreds of queries a second.

To take a connection from the pool and hand it back costs as much as a small query itself (60 of 120
microseconds measured): a task, a check for listeners and a proxy each time.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

import asyncpg

from persistence.database.failover import end, is_stale, leave_if_outdated
from persistence.database.pool import Connection, Pool
from persistence.database.translation import translated

__all__ = ["ReservedConnections"]

_SHARE = 4


class ReservedConnections:
    """Runs queries over ``pool``, and keeps up to ``most`` connections, at most a quarter of it."""

    def __init__(self, pool: Pool, *, most: int) -> None:
        self._pool = pool
        self._most = min(most, pool.get_max_size() // _SHARE)
        self._idle: list[Connection] = []
        self._held = 0

    async def fetch(self, query: str, *arguments: Any, within: float) -> list[Any]:
        """Return the rows of a query.

        ``within`` bounds, in seconds, the wait for a connection and the wait for the answer.

        Raises:
            PersistenceError: see ``persistence.errors``.
        """
        with translated():
            connection = await self._take(within)
            try:
                rows = await connection.fetch(query, *arguments, timeout=within)
            except BaseException as error:
                self._held -= 1
                if isinstance(error, TimeoutError | CancelledError):
                    end(connection)  # its answer may still arrive
                else:
                    await leave_if_outdated(self._pool, connection, error)
                await self._pool.release(connection)
                raise
            if self._held > self._most:
                self._held -= 1
                await self._pool.release(connection)
            else:
                self._idle.append(connection)
            return rows

    async def close(self) -> None:
        """Hand back the idle connections. A query under way hands back its own."""
        self._most = 0
        while self._idle:
            self._held -= 1
            await self._pool.release(self._idle.pop())

    async def _take(self, within: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if _is_usable(connection):
                return connection
            self._held -= 1  # the pool took it back when it closed
        connection = await self._pool.acquire(timeout=within)
        self._held += 1
        return connection


def _is_usable(connection: Connection) -> bool:
    try:
        if is_stale(connection):
            connection.terminate()
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False
