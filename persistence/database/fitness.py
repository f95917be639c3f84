"""Check whether a server that speaks PostgreSQL's protocol can do what the service needs.

Each address is checked once, over its first connection; and again while it is unfit.

A pooler is recognized because it reports another process id than the server behind it. In
transaction mode it lends the server's session to other clients in between, with prepared
statements, advisory locks and settings. A single client sees no harm; with two at once, results are
wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Protocol

import asyncpg
import msgspec
import structlog

from persistence.errors import UnfitDatabase

__all__ = [
    "READS_OLD",
    "Fitness",
    "Pooling",
    "assumed",
    "end_if_given_up",
    "examine_session",
    "reads_from_a_standby",
    "set_in_session",
    "unset_parameters",
]

_log = structlog.get_logger(__name__)

_ASSUMED = {
    # A statement that waited for a lock has to see what was committed meanwhile. In a stricter
    # isolation PostgreSQL cancels it (40001), and a standby answers nothing at all.
    "default_transaction_isolation": "read committed",
    # A missing value goes as NULL in the literal of an array.
    "array_nulls": "on",
    # Statements set the time for a lock where they need one.
    "lock_timeout": "0",
    # A session that holds a lock is idle while its process works.
    "idle_session_timeout": "0",
    # A search and a slice of time have BRIN indexes, which nothing but a bitmap scan can use.
    "enable_bitmapscan": "on",
}
# Audits, repairs and archives have long transactions.
_ASSUMED_FROM_17 = {"transaction_timeout": "0"}

_CLIENT_CHECK = "2s"
_WITHIN = 2.0
_TRIES = 3

_ENGINE = """
SELECT version() AS version,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS citus,
    to_regclass('sys.jobs') IS NOT NULL AS dsql,
    current_setting('server_encoding') AS encoding
"""
_PID = "SELECT pg_backend_pid()"
# The name of a session belongs to the pooler. ``reset_val`` is what sessions begin with: another
# client may have changed the value in this one.
_NOT_SET = """
SELECT format(
    'ALTER ROLE %I IN DATABASE %I SET %s = %L;', current_user, current_database(), name, wanted
) AS remedy
FROM unnest($1::text[], $2::text[]) AS wanted (name, wanted) JOIN pg_settings USING (name)
WHERE reset_val <> wanted AND name <> 'application_name'
ORDER BY name
"""

# A stable function, and a volatile one.
_READ_FROM_STANDBY = "SELECT current_setting('in_hot_standby', true) = 'on'"
_WRITTEN_TO_STANDBY = "SELECT pg_is_in_recovery()"

_COCKROACH = (
    "it is CockroachDB, which has no advisory locks: messages of one conversation could be read in "
    "another order than they were sent. Use PostgreSQL"
)
_DSQL = (
    "it is Aurora DSQL, which has no sequences and no foreign keys: rows would have no order. Use "
    "Aurora PostgreSQL or RDS"
)
_CITUS = (
    "it has the extension citus, whose shards can't keep a key unique: a message could be two "
    "rows. Use a database without it"
)
_OLD = "it is PostgreSQL {}, and 14 or later is needed"
_AT_LEAST = (14,)
_ENCODING = (
    "its encoding is {}, which has no place for most characters: messages with others would be "
    "accepted, and become dead letters. Make a database for it with CREATE DATABASE ... ENCODING "
    "'UTF8' TEMPLATE template0"
)
_ENCODINGS = ("UTF8", "SQL_ASCII")  # SQL_ASCII keeps the bytes that it gets
_LOSES_STATEMENTS = (
    "it is behind a pooler in transaction mode that loses prepared statements (pgbouncer below "
    "1.21, or with max_prepared_statements=0): set pool_mode=session there, or name the server "
    "itself. "
    "From pgbouncer 1.21 on, set DATABASE_DIRECT_URL to the server itself"
)
_NO_TRANSACTIONS = (
    "it is behind a pooler in statement mode, which allows no transactions: set pool_mode=session "
    "there, or pool_mode=transaction (pgbouncer 1.21 or later) with DATABASE_DIRECT_URL"
)
_STATEMENT_MODE = "statement pooling mode"  # pgbouncer's words
_LOSES_LOCKS = (
    "it is behind a pooler in transaction mode, which keeps no session's locks: set "
    "DATABASE_DIRECT_URL to the server itself, or pool_mode=session in the pooler"
)
READS_OLD = (
    "a pooler sends reads to a standby, and only writes to the primary (pgpool-II, "
    "load_balance_mode): decisions would be made from rows that are too old. Set "
    "load_balance_mode = off in pgpool.conf, or app_name_redirect_preference_list = "
    "'crossfade:primary', which leaves other programs as they are"
)


class Pooling(StrEnum):
    """The kind of pooler between us and the server."""

    NONE = "none"
    SESSION = "session"
    TRANSACTION = "transaction"
    LOSSY = "lossy"
    """Transaction mode without prepared statements, or statement mode."""


class Fitness(msgspec.Struct, frozen=True):
    """Whether an address can be used. ``why`` is the reason if it can't, with the remedy."""

    pooling: Pooling
    why: str | None = None

    def must_do(self, name: str) -> None:
        """Raise ``UnfitDatabase`` unless the address can be used. ``name`` is the setting's."""
        if self.why is not None:
            raise UnfitDatabase(f"{name} leads to a server that can't be used: {self.why}")


class OpenSession(Protocol):
    """A connection, of a pool or of its own."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return the rows of a query."""

    def get_server_version(self) -> tuple[Any, ...]:
        """Return the server's version; its first part is the major version."""


Another = Callable[[], Awaitable["asyncpg.Connection[Any]"]]
"""Connects once more to the same address."""


async def examine_session(
    session: asyncpg.Connection[Any], another: Another, *, has_direct: bool
) -> Fitness:
    """Return the fitness of the address that ``session`` is connected to.

    ``has_direct``: whether session locks use another address.
    """
    try:
        async with asyncio.timeout(_WITHIN * _TRIES):
            engine = await session.fetchrow(_ENGINE)
            assert engine is not None
            if why := _engine_lacks(engine, session.get_server_version()):
                return Fitness(Pooling.NONE, why)
            pooling = await _pooling(session, another)
    except _LOST_STATEMENTS:
        pooling = Pooling.LOSSY
    except asyncpg.ConnectionDoesNotExistError as error:
        if _STATEMENT_MODE not in str(error):
            raise
        return Fitness(Pooling.LOSSY, _NO_TRANSACTIONS)
    if pooling is Pooling.LOSSY:
        return Fitness(pooling, _LOSES_STATEMENTS)
    if pooling is Pooling.TRANSACTION and not has_direct:
        return Fitness(pooling, _LOSES_LOCKS)
    return Fitness(pooling)


def assumed(session: OpenSession) -> dict[str, str]:
    """Return the parameters that statements rely on, with PostgreSQL's defaults.

    A role or a database may have others. They are set once a session has begun, not at its start: a
    pooler refuses what its configuration does not name (``ignore_startup_parameters``).
    """
    return _ASSUMED | (_ASSUMED_FROM_17 if session.get_server_version() >= (17,) else {})


async def reads_from_a_standby(session: OpenSession) -> bool:
    """Return whether a pooler sends reads of this session to a standby, and not its writes.

    pgpool-II sends volatile functions where it sends writes, and chooses a server for all other
    reads of a session when that begins.
    """
    (read,) = await session.fetch(_READ_FROM_STANDBY)
    if not read[0]:
        return False
    (written,) = await session.fetch(_WRITTEN_TO_STANDBY)
    return not written[0]


async def set_in_session(session: asyncpg.Connection[Any], settings: Mapping[str, str]) -> None:
    """Set parameters of a session that has begun, in one round trip."""
    await session.execute("; ".join(f"SET {name} = '{value}'" for name, value in settings.items()))


async def end_if_given_up(session: asyncpg.Connection[Any]) -> None:
    """Have the server end a statement once its client has closed the connection.

    Else a statement that waits for a lock goes on until ``statement_timeout``. While a synchronous
    standby is gone, a heartbeat every two seconds would use up the server's connections.
    """
    with suppress(asyncpg.InvalidParameterValueError):  # a server on Windows can't
        await session.execute(f"SET client_connection_check_interval = '{_CLIENT_CHECK}'")


async def unset_parameters(session: OpenSession, settings: Mapping[str, str]) -> str:
    """Return statements that give the user ``settings`` and ``assumed``; empty if it has them.

    A pooler in transaction mode keeps no parameters of a session, so the user has to have them.
    """
    wanted = {**settings, **assumed(session)}
    lacking = await session.fetch(_NOT_SET, list(wanted), list(wanted.values()))
    return " ".join(row["remedy"] for row in lacking)


_LOST_STATEMENTS = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)


def _engine_lacks(engine: Any, version: tuple[Any, ...]) -> str | None:
    encoding = engine["encoding"]
    reasons = (
        (_COCKROACH, "CockroachDB" in engine["version"]),
        (_DSQL, engine["dsql"]),
        (_OLD.format(version[0]), version < _AT_LEAST),
        (_CITUS, engine["citus"]),
        (_ENCODING.format(encoding), encoding not in _ENCODINGS),
    )
    return next((why for why, is_so in reasons if is_so), None)


async def _pooling(session: asyncpg.Connection[Any], another: Another) -> Pooling:
    mine = await session.fetchval(_PID)
    if mine == session.get_server_pid():
        return Pooling.NONE
    for _ in range(_TRIES):  # other clients may take the session first
        other = await another()
        try:
            taken = other.transaction()
            await taken.start()
            theirs = await other.fetchval(_PID)
            # While that transaction holds our server (if it does), does another server know the
            # statement?
            now = await session.fetchval(_PID, timeout=_WITHIN)
        except _LOST_STATEMENTS:
            return Pooling.LOSSY
        except TimeoutError:
            return Pooling.LOSSY  # it waits for the other to end: both have one session
        finally:
            other.terminate()
        if theirs == mine or now != mine:
            return Pooling.TRANSACTION
    return Pooling.SESSION
