"""The pool of connections that everything in this package shares."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import asyncpg

from persistence.database.failover import end, leave_if_outdated, watch_of
from persistence.database.servers import ServerConnection, Servers
from persistence.database.translation import translated
from persistence.settings import PersistenceSettings

__all__ = [
    "Connection",
    "Pool",
    "asks_again",
    "connect",
    "connect_reads",
    "session_settings",
    "using",
]

# Quoted, because these classes are generic in the stubs only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_CONNECT_SECONDS = 5.0
# asyncpg's default is 300. If connections are scarce, another process may wait for this one.
_IDLE_SECONDS = 60.0
# A process suspended inside a transaction (a redrive's) must not hold its row locks for ever.
_IDLE_IN_TRANSACTION_MS = 60_000


async def connect(
    settings: PersistenceSettings, *, scans: bool = False, may_lag: bool = False
) -> Pool:
    """Return a pool that opens its first connection when it is first needed.

    So the service starts while PostgreSQL is down. The caller closes the pool. ``scans``: whether
    statements may read whole tables (an audit must not trust the indexes). ``may_lag``: whether
    reads may come from a standby behind a pooler.

    Raises:
        Outage: the URL can't be used.
    """
    timeout = settings.database_timeout_seconds
    direct = settings.database_direct_url
    if scans and direct:  # a pooler may keep no session's settings, and this is about one of them
        url = direct.get_secret_value()
        servers = Servers(url, setting="DATABASE_DIRECT_URL", password=settings.password)
    else:
        url = settings.database_url.get_secret_value()
        servers = Servers(
            url,
            direct=direct.get_secret_value() if direct else None,
            password=settings.password,
            may_lag=may_lag,
        )
    with translated():
        return await asyncpg.create_pool(
            url,
            connect=cast("Any", servers.connect),  # the stubs want asyncpg's own signature
            connection_class=ServerConnection,
            min_size=0,
            max_size=settings.database_pool_size,
            timeout=_CONNECT_SECONDS,
            max_inactive_connection_lifetime=_IDLE_SECONDS,
            command_timeout=timeout,
            # We never set session state, so there is nothing to reset. asyncpg's own reset would
            # cost a round trip per use; it still rolls back a transaction left open.
            reset=_keep,
            server_settings=session_settings(settings, scans=scans),
        )


def session_settings(settings: PersistenceSettings, *, scans: bool = False) -> dict[str, str]:
    """Return the parameters that each session is started with, by PostgreSQL's names."""
    return {
        "application_name": "crossfade",
        # The service queries by key. PostgreSQL keeps the plan of a prepared statement. A plan made
        # while a table is small reads the whole table at every query, until the table is analyzed a
        # minute of traffic later (three times the CPU at 500 POST/s, and a p99 of 15 ms instead of
        # 4).
        "enable_seqscan": "on" if scans else "off",
        # Before PostgreSQL 18, a plan without an alternative counts as expensive enough to compile.
        "jit": "off",
        "statement_timeout": str(int(settings.database_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
    }


async def connect_reads(settings: PersistenceSettings) -> Pool | None:
    """Return a pool of connections for reads only; ``None`` if no server is set for them.

    Raises:
        Outage: the URL can't be used.
    """
    if settings.database_read_url is None:
        return None
    changed = {"database_url": settings.database_read_url, "database_direct_url": None}
    return await connect(settings.model_copy(update=changed), may_lag=True)


@asynccontextmanager
async def using(pool: Pool, *, within: float | None = None) -> AsyncIterator[Connection]:
    """Lend a connection; errors in the block are raised as ``persistence.errors``.

    ``within`` is the longest wait for a free connection, in seconds (``None``: for ever).
    """
    with translated():
        connection = await pool.acquire(timeout=within)
        watch = watch_of(connection)
        if watch:
            watch.began(connection)
        try:
            yield connection
        except (TimeoutError, CancelledError):
            # Its answer may still arrive, or never. Asking the server to cancel, and waiting for
            # that, would hang here if the network fails.
            end(connection)
            raise
        except Exception as error:
            await leave_if_outdated(pool, connection, error)
            raise
        finally:
            if watch:
                watch.ended(connection)
            await pool.release(connection)


def asks_again(connection: Connection) -> None:
    """Record that another statement is sent over a connection that ``using`` lends."""
    if watch := watch_of(connection):
        watch.began(connection)


async def _keep(_connection: Any) -> None:
    return None
