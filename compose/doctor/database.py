"""Examines PostgreSQL: connection, version, durability and limits. ``tables`` has the schema."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from compose.doctor.certificates import examine_certificates
from compose.doctor.clock import clock
from compose.doctor.observation import Observation, bad, failed, fine, unknown, warning
from compose.doctor.tables import examine_tables
from compose.process.settings_warnings import cheaper_wal
from persistence.database.certificates import certificates
from persistence.database.failover import pooling_of, replacement_of
from persistence.database.fitness import Pooling, unset_parameters
from persistence.database.pool import (
    Connection,
    Pool,
    session_settings,
    using,
)
from persistence.database.provenance import reset_statement
from persistence.database.translation import ACCESS_REMEDIES
from persistence.errors import PersistenceError, TooSlow, UnfitDatabase
from persistence.fleet.migration_state import state as migration_state
from persistence.fleet.processes import processes, strays
from persistence.settings import PersistenceSettings
from persistence.store.standstill import standstill

__all__ = ["examine_database"]

_WITHIN = 5.0
_UNREACHED = "see that PostgreSQL runs where DATABASE_URL says"
# pgbouncer lets clients wait for a session, and gives no answer meanwhile.
_NO_ANSWER = f"{_UNREACHED}, and that a pooler in between has a session left (default_pool_size)"
_EXHAUSTED = "53"  # the class of the SQLSTATE: the text has the remedy
_NO_TLS = "rejected SSL upgrade"  # of asyncpg
_NAME_PRIMARY = "name the primary in DATABASE_URL, or all hosts and target_session_attrs=read-write"
_REMEDIES = {  # by the first characters of the SQLSTATE
    **ACCESS_REMEDIES,
    "42501": "GRANT it to the user in DATABASE_URL",
    "53300": "allow more connections (max_connections, ALTER ROLE ... CONNECTION LIMIT), or lower "
    "DATABASE_POOL_SIZE of every process",
}
# autovacuum_freeze_max_age is 200 million; from 1.6 billion on, vacuum hurries.
_IDS_OLD = 1_000_000_000
_IDS_NEARLY_USED_UP = 1_800_000_000
_SERVER = """
SELECT version() AS version, pg_is_in_recovery() AS standby,
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('default_transaction_read_only') AS read_only,
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0) AS connections,
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user) AS of_role,
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
        AS of_database,
    quote_ident(current_schema()) AS schema, current_setting('search_path') AS search_path,
    has_schema_privilege(current_schema(), 'CREATE') AS may_create,
    quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
    (SELECT max(age(datfrozenxid)) FROM pg_database) AS oldest_id,
    (SELECT json_object_agg(name, source)::text FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit',
            'default_transaction_read_only')) AS set_by
"""
_COLLATION = """
SELECT datcollversion AS made_with, pg_database_collation_actual_version(oid) AS present
FROM pg_database WHERE datname = current_database()
"""
_COLLATION_FROM = (15,)
_STANDBYS = """
SELECT count(*) FILTER (WHERE sync_state = 'async') AS behind, count(*) AS every
FROM pg_stat_replication WHERE state = 'streaming'
"""
# A standby has slots too, and no such position. Aurora has the function only with logical
# replication, so it is called for each slot, and not before.
_SLOTS = """
SELECT quote_literal(slot_name) AS name, active,
    pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) AS kept
FROM pg_replication_slots
WHERE restart_lsn IS NOT NULL AND (NOT active OR wal_status = 'extended')
    AND current_setting('max_slot_wal_keep_size') = '-1' AND NOT pg_is_in_recovery()
ORDER BY restart_lsn
"""


async def examine_database(pool: Pool, settings: PersistenceSettings) -> AsyncIterator[Observation]:
    """Yield the observations of PostgreSQL."""
    try:
        async with using(pool, within=_WITHIN) as connection:
            asked = time.time()
            server: Any = await connection.fetchrow(_SERVER, timeout=_WITHIN)
            answered = time.time()
            pooling = pooling_of(connection)
            for observation in _of_server(server):
                yield observation
            if replaced := await replacement_of(connection):
                yield _replaced(*replaced)
            for observation in examine_certificates(certificates(connection)):
                yield observation
            yield clock(server["clock"], asked, answered)
            for part in (
                _standstill(connection),
                _collation(connection, server),
                examine_tables(connection, server, settings),
                _wal(connection),
                _slots(connection),
                _pooler(connection, pooling, settings),
            ):
                async for observation in part:
                    yield observation
            standbys: Any = await connection.fetchrow(_STANDBYS, timeout=_WITHIN)
            if standbys["every"]:
                yield fine("standbys", f"{standbys['every']}, {standbys['behind']} asynchronous")
    except (PersistenceError, TimeoutError) as error:
        yield failed("connection", error, _found(error), _remedy(error))
        return
    async for observation in _processes(pool, server, settings, pooling):
        yield observation


def _found(error: Exception) -> str:
    """Return the text of the error without its remedy, which the table has in another column."""
    text = str(error) or f"no answer within {_WITHIN:g} s"
    if remedy := ACCESS_REMEDIES.get(_state(error)[:2]):
        return text.removeprefix(f"{remedy} (").removesuffix(")")
    return text


def _remedy(error: Exception) -> str:
    """Return the remedy for a database that can't be used."""
    state = _state(error)
    known = (remedy for start, remedy in _REMEDIES.items() if state.startswith(start))
    remedy = _NO_ANSWER if isinstance(error, (TooSlow, TimeoutError)) else _UNREACHED
    if _NO_TLS in str(error):
        remedy = "turn ssl on in that server, or lower sslmode in DATABASE_URL"
    if isinstance(error, UnfitDatabase) or state.startswith(_EXHAUSTED):
        remedy = "change it as the text says"
    return f"{next(known, remedy)}; until then, messages are accepted and wait in the log"


def _state(error: Exception) -> str:
    return str(getattr(error.__cause__, "sqlstate", None) or "")


def _of_server(server: Any) -> Iterator[Observation]:
    yield fine("version", server["version"].partition(" on ")[0])
    if server["standby"]:
        yield bad("role", "a standby", _NAME_PRIMARY)
    elif server["read_only"] == "on":
        name = "default_transaction_read_only"
        yield bad("role", f"read-only ({name})", _reset(server, name) or _NAME_PRIMARY)
    else:
        yield fine("role", "primary")
    lax = [
        name
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if server[name] == "off"
    ]
    if lax:
        yield bad(
            "durability",
            f"{', '.join(f'{name}=off' for name in lax)}: a crash loses rows whose records were "
            "acknowledged",
            "; ".join(_reset(server, name) or f"set {name} to on" for name in lax),
            promise=1,
        )
    else:
        yield fine("durability", f"synchronous_commit={server['synchronous_commit']}")
    if (oldest := server["oldest_id"]) > _IDS_OLD:
        yield (bad if oldest > _IDS_NEARLY_USED_UP else warning)(
            "transaction ids",
            f"the oldest is {oldest:,} back; PostgreSQL refuses all writes from some 2,144,000,000",
            "roll back old prepared transactions, drop replication slots that nobody uses, end old "
            "transactions, and see that autovacuum works",
        )


def _reset(server: Any, name: str) -> str | None:
    """Return the statement that resets what the role or the database has; ``None`` if neither."""
    source = json.loads(server["set_by"])[name]
    return reset_statement(name, source, role=server["role"], database=server["database"])


def _replaced(old: str, new: str) -> Observation:
    return bad(
        "replaced",
        f"{old} goes on taking writes, although {new} was promoted in its place",
        f"stop {old} (with Patroni: see that its Patroni runs), and have it follow {new}",
        promise=1,
    )


async def _standstill(connection: Connection) -> AsyncIterator[Observation]:
    if found := await standstill(connection):
        yield bad("writes", f"it answers, and takes no rows: {found.why}", found.remedy)


async def _collation(connection: Connection, server: Any) -> AsyncIterator[Observation]:
    """Yield an observation if texts are sorted otherwise than when the indexes were built."""
    if connection.get_server_version() < _COLLATION_FROM:
        return
    version: Any = await connection.fetchrow(_COLLATION, timeout=_WITHIN)
    made_with, present, name = version["made_with"], version["present"], server["database"]
    if made_with and present and made_with != present:
        yield bad(
            "collation",
            f"{name} was made with version {made_with} of its collation, and the system "
            f"has {present}: an index may not find a key, so a message could become two "
            "rows",
            f"REINDEX DATABASE {name}; ALTER DATABASE {name} REFRESH COLLATION VERSION; then "
            "'crossfade audit' says whether a row is there twice",
            promise=2,
        )


async def _wal(connection: Connection) -> AsyncIterator[Observation]:
    if changes := await cheaper_wal(connection):
        yield warning(
            "WAL",
            "up to twice as much for a row of a large table as it has to be",
            "".join(f"ALTER SYSTEM SET {change}; " for change in changes)
            + "SELECT pg_reload_conf();",
        )


async def _slots(connection: Connection) -> AsyncIterator[Observation]:
    """Yield an observation of each replication slot that may fill the disk with WAL."""
    for slot in await connection.fetch(_SLOTS, timeout=_WITHIN):
        name, kept = slot["name"], slot["kept"]
        reader = "its reader is behind" if slot["active"] else "nobody reads it"
        yield warning(
            "replication slots",
            f"{name} keeps {kept} of WAL, without a limit, and {reader}: once the disk is full, "
            "PostgreSQL takes no rows",
            "have it read, or drop the slot if nobody needs it (SELECT "
            f"pg_drop_replication_slot({name})); limit what slots keep (max_slot_wal_keep_size)",
        )


async def _pooler(
    connection: Connection, pooling: Pooling, settings: PersistenceSettings
) -> AsyncIterator[Observation]:
    if pooling is Pooling.NONE:
        return
    yield fine("pooler", f"in {pooling.value} mode")
    if pooling is not Pooling.TRANSACTION:
        return  # each session gets them once it has begun
    if remedy := await unset_parameters(connection, session_settings(settings)):
        yield warning(
            "sessions",
            "they lack settings that the pooler does not keep: plans may be slow, and a statement "
            "may take longer than DATABASE_TIMEOUT_SECONDS",
            f"{remedy} Then have the pooler connect anew (pgbouncer: RECONNECT)",
        )


async def _processes(
    pool: Pool, server: Any, settings: PersistenceSettings, pooling: Pooling
) -> AsyncIterator[Observation]:
    try:
        alive = [process for process in await processes(pool, within=_WITHIN) if process.live]
        state = await migration_state(pool, within=_WITHIN)
    except (PersistenceError, TimeoutError) as error:
        yield unknown("processes", f"they are unknown: {error}")
        return
    versions = sorted({process.version for process in alive})
    if state and (astray := strays(alive, state)):
        who = ", ".join(process.member for process in astray)
        yield warning(
            "settings",
            f"those of {who} are of another phase than the migration's: messages of a "
            "conversation may be stored out of order",
            "restart them with the settings that 'crossfade migrate status' shows",
            promise=3,
        )
    if len(versions) > 1:
        yield warning(
            "processes",
            f"{len(alive)} run, of versions {', '.join(versions)}",
            "end the rolling upgrade: features that all must know wait for the oldest",
        )
    else:
        yield fine("processes", f"{len(alive)} run" if alive else "none runs now")
    if pooling is not Pooling.NONE:
        return  # the pooler limits the connections
    wanted = max(1, len(alive)) * settings.database_pool_size
    most, limit, setting = min(_limits(server))
    if wanted > most:
        yield warning(
            "connections",
            f"{len(alive)} processes may open {wanted}, and {limit} takes {most}",
            f"raise {setting}, or lower DATABASE_POOL_SIZE: a process that finds no "
            "connection waits, as in an outage",
        )
    else:
        yield fine("connections", f"{wanted} of {most} at most")


def _limits(server: Any) -> Iterator[tuple[int, str, str]]:
    """Yield each limit on connections: the number, whose limit it is, and the remedy."""
    role, database = server["role"], server["database"]
    yield server["connections"], "the server", "max_connections"
    if server["of_role"] is not None:
        yield server["of_role"], f"the role {role}", f"it (ALTER ROLE {role} CONNECTION LIMIT)"
    if server["of_database"] is not None:
        how = f"it (ALTER DATABASE {database} CONNECTION LIMIT)"
        yield server["of_database"], f"the database {database}", how
