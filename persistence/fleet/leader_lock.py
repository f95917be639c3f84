"""Elect one process: a lock of PostgreSQL that ends with the connection that holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from persistence.database.failover import direct_of, end, leave_if_outdated
from persistence.database.pool import Connection, Pool
from persistence.database.servers import Servers
from persistence.database.translation import translated
from persistence.errors import PersistenceError

__all__ = ["elected", "is_held"]

# The first key of a two-key advisory lock; the second is the purpose.
_CLASS = 0x63726674


_WITHIN = 2.0
_TRY = "SELECT pg_try_advisory_lock($1, hashtext($2))"
_UNLOCK = "SELECT pg_advisory_unlock($1, hashtext($2))"


@asynccontextmanager
async def elected(
    pool: Pool, what: str, *, within: float | None = None
) -> AsyncIterator[Connection | None]:
    """Lend a connection that holds the lock ``what``, or ``None`` if another process holds it.

    The lock is held as long as the connection works. Use that connection for work that no other
    process may do meanwhile. ``within`` is the longest wait for a free connection, in seconds
    (``None``: for ever).

    Raises:
        Outage: PostgreSQL can't answer, or the connection is gone, and with it the lock.
    """
    with translated():
        connection = await pool.acquire(timeout=within)
    if direct := direct_of(connection):
        await pool.release(connection)
        async with _directly(direct, what) as session:
            yield session
        return
    try:
        with translated():
            held = await _try(connection, what)
        try:
            # Not translated: an error of the block is not the database's.
            yield connection if held else None
        finally:
            if held:
                await _unlock(connection, what)
    except Exception as error:
        await leave_if_outdated(pool, connection, error)
        raise
    finally:
        await pool.release(connection)


@asynccontextmanager
async def _directly(servers: Servers, what: str) -> AsyncIterator[Connection | None]:
    """Do what ``elected`` does over a session of its own, past a pooler that keeps no locks."""
    with translated():
        session = await servers.connect()
    try:
        with translated():
            held = await session.fetchval(_TRY, _CLASS, what)
        yield cast("Connection", session) if held else None
    finally:
        session.terminate()  # and with it the lock


async def _try(connection: Connection, what: str) -> bool:
    try:
        return bool(await connection.fetchval(_TRY, _CLASS, what))
    except (TimeoutError, asyncio.CancelledError):
        # The server may grant the lock all the same. The pool would keep it with the connection.
        end(connection)
        raise


async def _unlock(connection: Connection, what: str) -> None:
    try:
        with translated():
            async with asyncio.timeout(_WITHIN):
                await connection.execute(_UNLOCK, _CLASS, what)
    except asyncio.CancelledError:
        # The statement may never be executed. The pool would keep the lock with the connection.
        end(connection)
        raise
    except PersistenceError:  # it was cut off in the middle of a statement, or is gone already
        end(connection)  # and with it the lock


def is_held(name: str) -> str:
    """Return SQL that is true if any process holds the lock named by the expression."""
    return f"""EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = {_CLASS}
            AND objid = hashtext({name})::oid
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""  # noqa: S608 - of constants
