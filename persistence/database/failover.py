"""Leave sessions of PostgreSQL that can't do their work any more, with every connection of a pool.

A demoted server still answers reads, and a session that a proxy or a pooler kept goes on refusing
writes. A new connection leads to the primary. A session also keeps the ``search_path`` that its
role had when it began: if the tables were moved to another schema, only a new one finds them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

import asyncpg

from persistence.database.fitness import Pooling
from persistence.database.translation import lacks_number
from persistence.database_url import place_of

if TYPE_CHECKING:  # database.py uses this module
    from persistence.database.hang import HangWatch
    from persistence.database.pool import Connection, Pool
    from persistence.database.servers import Servers

__all__ = [
    "direct_of",
    "end",
    "is_stale",
    "leave_if_outdated",
    "pooling_of",
    "replacement_of",
    "watch_of",
]

_OUTDATED = frozenset(
    (
        "42P01",  # no such table: they may be in a schema that the role was given since
        "25006",  # read-only: a standby, or default_transaction_read_only
        "57P01",  # the administrator ends the sessions
        "57P02",  # another session crashed the server
        "57P03",  # the server starts up or shuts down
    )
)


def is_stale(connection: Connection) -> bool:
    """Return whether the pool gave its connections up after this one was made."""
    servers = _servers_of(connection)
    made: int | None = getattr(connection, "generation", None)
    return servers is not None and made != servers.generation


def end(connection: Connection) -> None:
    """Close a connection at once, unless the server ended it meanwhile."""
    with suppress(asyncpg.InterfaceError):  # then it is the pool's again, and refuses
        connection.terminate()


async def leave_if_outdated(pool: Pool, connection: Connection, error: BaseException) -> None:
    """Close ``connection``, and the pool's others once they are free, if ``error`` demands it."""
    servers = _servers_of(connection)
    if servers is not None and _is_outdated(error) and servers.leave():
        end(connection)
        await pool.expire_connections()


def direct_of(connection: Connection) -> Servers | None:
    """Return the servers of ``connection`` without the pooler; ``None`` if there is no pooler."""
    servers = _servers_of(connection)
    return servers.direct if servers is not None else None


def watch_of(connection: Connection) -> HangWatch | None:
    """Return the watch for a server that hangs; ``None`` if there is only one server."""
    servers = _servers_of(connection)
    return servers.watch if servers is not None else None


def pooling_of(connection: Connection) -> Pooling:
    """Return the kind of pooler between ``connection`` and the server."""
    return cast("Pooling", getattr(connection, "pooling", Pooling.NONE))


async def replacement_of(connection: Connection) -> tuple[str, str] | None:
    """Return the server of ``connection``, and the one that was promoted in its place.

    ``None`` if none was, or if that is not known.
    """
    servers = _servers_of(connection)
    used: str | None = getattr(connection, "url", None)
    if servers is None or used is None:
        return None
    new = await servers.replacement(used)
    return None if new is None else (place_of(used), place_of(new))


def _servers_of(connection: Connection) -> Servers | None:
    """Return the servers ``connection`` was made from; ``None`` if the pool has it back already."""
    return getattr(connection, "servers", None)


def _is_outdated(error: BaseException | None) -> bool:
    """Return whether ``error``, or its cause, says that a new session may do better."""
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return any(_is_outdated(exception) for exception in error.exceptions)
        if isinstance(error, asyncpg.PostgresError):
            # The sequence that comes may be behind, and is looked at over a new connection.
            return error.sqlstate in _OUTDATED or lacks_number(error)
        error = error.__cause__
    return False
