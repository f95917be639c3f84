"""Warnings about settings that work, but not well: settings of the logs and of PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress

import asyncpg
import structlog

from persistence.database.outage import stopped_within
from persistence.database.pool import Connection, Pool, using
from persistence.errors import PersistenceError
from persistence.fleet.processes import processes
from persistence.store.locks import BUCKETS, inserters
from transport.log_name import LogName
from transport.settings import TransportSettings

__all__ = ["cheaper_wal", "warn", "warn_of_database"]

_log = structlog.get_logger(__name__)

_PAUSE = 5.0
_SENTINELS = 3
_MOST_WAL_MB = 4096
_CHECKPOINT_SECONDS = 900
_WAL = """
SELECT name, setting, coalesce(enumvals, '{}') AS choices FROM pg_settings
WHERE name IN ('wal_compression', 'max_wal_size', 'checkpoint_timeout')
"""
_CONNECTIONS = """
SELECT current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
"""


def warn(settings: TransportSettings) -> None:
    """Warn of settings that may leave messages unread, late or slow, with the remedy."""
    _warn_of_counts(settings)
    _warn_of_sentinels(settings)
    written, shadow, read = settings.transport, settings.transport_shadow, settings.consumed
    if read == written:
        return
    if read != shadow:
        _log.warning(
            f"Workers read {read}, and messages are written to {written}, which is not copied "
            f"there: they become rows later than those of {read}, whatever their order",
            remedy=f"set CONSUME_FROM={written}, or TRANSPORT_SHADOW={read}",
        )
    elif settings.transport_shadow_mode == "async":
        _log.warning(
            f"Workers read {read}, which gets its copies after messages of {written} are "
            f"acknowledged: a copy that is dropped (the queue is full, the process is killed, "
            f"{read} refuses it) leaves its message in {written} only, and its row may come behind "
            "newer ones of its conversation",
            remedy=f"set TRANSPORT_SHADOW_MODE=sync, or CONSUME_FROM={written}",
        )


def _warn_of_counts(settings: TransportSettings) -> None:
    names = dict.fromkeys((settings.transport, settings.transport_shadow, settings.consumed))
    for name in filter(None, names):
        count = settings.of(LogName.parse(name)).stream_partitions
        if (at_once := inserters(count)) < count:
            _log.warning(
                f"Rows of the {count} partitions of {name} are inserted by {at_once} workers at "
                "once: partitions whose numbers have the same remainder wait for each other",
                remedy=f"migrate to a log whose number of partitions divides {BUCKETS}: "
                "'crossfade migrate plan --to LOG@COUNT --why ...'",
            )


def _warn_of_sentinels(settings: TransportSettings) -> None:
    names = dict.fromkeys((settings.transport, settings.transport_shadow, settings.consumed))
    for name in map(LogName.parse, filter(None, names)):
        redis = settings.of(name).redis
        if name.kind == "redis" and redis.master and len(redis.servers) < _SENTINELS:
            _log.warning(
                f"{len(redis.servers)} of the sentinels of {redis.master!r} are named for {name}: "
                "none of them may be down",
                remedy=f"name all {_SENTINELS} or more sentinels in {_url(name)}",
            )


def _url(name: LogName) -> str:
    return f"LOG_{name.label.upper()}_REDIS_URL" if name.label else "REDIS_URL"


async def warn_of_database(pool: Pool, stop: asyncio.Event) -> None:
    """Warn once, when PostgreSQL can be reached, of its settings that make writes expensive.

    Warn too if it allows fewer connections than the live processes may open.
    """
    while not stop.is_set():
        try:
            async with using(pool) as connection:
                changes = await cheaper_wal(connection)
                most = await connection.fetchval(_CONNECTIONS)
        except PersistenceError:
            await stopped_within(stop, _PAUSE)
            continue
        alive = 1
        with suppress(PersistenceError):  # before its first migration the database has no table
            alive = sum(process.live for process in await processes(pool))
        wanted = max(1, alive) * pool.get_max_size()
        if wanted > most:
            _log.warning(
                f"{max(1, alive)} processes may open {wanted} connections to PostgreSQL, which "
                f"takes {most}: a process that finds none waits, and has no partitions",
                remedy="raise max_connections, or lower DATABASE_POOL_SIZE",
            )
        if changes:
            _log.warning(
                "PostgreSQL writes more WAL than it has to: up to twice as much for each row of a "
                "large table, which takes a third of the rate",
                remedy="".join(f"ALTER SYSTEM SET {change}; " for change in changes)
                + "SELECT pg_reload_conf();",
            )
        return


async def cheaper_wal(connection: Connection) -> list[str]:
    """Return settings, in the form of ``ALTER SYSTEM SET``, that would make writes cheaper."""
    return list(_changes({row["name"]: row for row in await connection.fetch(_WAL)}))


def _changes(found: Mapping[str, asyncpg.Record]) -> Iterator[str]:
    compression = found["wal_compression"]
    if compression["setting"] == "off":
        yield f"wal_compression = {'lz4' if 'lz4' in compression['choices'] else 'on'}"
    if int(found["max_wal_size"]["setting"]) < _MOST_WAL_MB:  # in MB
        yield "max_wal_size = '4GB'"
    if int(found["checkpoint_timeout"]["setting"]) < _CHECKPOINT_SECONDS:
        yield "checkpoint_timeout = '15min'"
