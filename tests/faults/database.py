"""Faults of the database, and the means to stop a worker in the very middle of a batch."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from compose.local.postgres import PostgresServer
from tests.support.eventually import eventually

__all__ = ["Held", "crash", "drop_connections", "inserts_held"]

# By how the statement begins: pg_stat_activity shows the first 1024 characters of it.
_WAITING = (
    " FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
    " AND query LIKE '%WITH bounded AS MATERIALIZED%'"
)


class Held:
    """Inserts that have reached PostgreSQL and stand before a lock of the test's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def waiting(self, at_least: int = 1) -> None:
        """Return once so many batches wait in the database."""

        async def enough() -> bool:
            # Within a transaction PostgreSQL shows the sessions as they were at the first look.
            await self._connection.execute("SELECT pg_stat_clear_snapshot()")
            count = await self._connection.fetchval(f"SELECT count(*){_WAITING}")
            return bool(count >= at_least)

        await eventually(enough)

    async def abort(self) -> None:
        """End the sessions that wait: their batches are never committed."""
        await self._connection.execute("SELECT pg_stat_clear_snapshot()")
        await self._connection.execute(f"SELECT pg_terminate_backend(pid){_WAITING}")


@asynccontextmanager
async def inserts_held(database_url: str) -> AsyncIterator[Held]:
    """Hold every insert into ``messages`` until the block ends; reads go on.

    A batch that waits here has been read from the log and sent to the database, and is neither
    committed nor acknowledged. When the block ends PostgreSQL commits it, whether or not the worker
    that sent it still lives.
    """
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
            yield Held(connection)
    finally:
        await connection.close()


async def drop_connections(database_url: str) -> None:
    """``pg_terminate_backend`` every session but our own."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def crash(server: PostgresServer) -> None:
    """``pg_ctl stop -m immediate``: no goodbye, no checkpoint; the next start recovers."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGQUIT)
    await eventually(lambda: not server.running)
    await server.stop()
