"""Examines the PostgreSQL that pages are read from: connection, role and lag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from compose.doctor.certificates import examine_certificates
from compose.doctor.observation import Observation, bad, failed, fine, warning
from persistence.database.certificates import certificates
from persistence.database.pool import Pool, connect_reads, using
from persistence.database.replay_lag import (
    ANOTHERS,
    LATE_SECONDS,
    has_anothers_messages,
    replay_lag,
)
from persistence.errors import PersistenceError
from persistence.settings import PersistenceSettings

__all__ = ["examine_reads"]

_WITHIN = 5.0
_READS = """
SELECT pg_is_in_recovery() AS standby, to_regclass('messages') IS NOT NULL AS ours,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS replayed
"""


async def examine_reads(primary: Pool, settings: PersistenceSettings) -> AsyncIterator[Observation]:
    """Yield the observations of ``DATABASE_READ_URL``."""
    pool = await connect_reads(settings)
    if pool is None:
        return
    try:
        async with using(pool, within=_WITHIN) as connection:
            server: Any = await connection.fetchrow(_READS, timeout=_WITHIN)
            for observation in examine_certificates(certificates(connection)):
                yield observation
        lag = await _lag(pool, primary) if server["ours"] else None
        is_anothers = server["ours"] and await _is_anothers(pool, primary)
    except (PersistenceError, TimeoutError) as error:
        yield failed(
            "connection",
            error,
            str(error).replace("DATABASE_URL", "DATABASE_READ_URL")
            or f"no answer within {_WITHIN:g} s",
            "see that PostgreSQL runs where DATABASE_READ_URL says, or unset it: until then pages "
            "of conversations and the console's search are read from DATABASE_URL, two at a time",
        )
        return
    finally:
        pool.terminate()
    if not server["ours"]:
        yield bad(
            "schema",
            "it has no table of messages",
            "lead DATABASE_READ_URL to a standby of the database in DATABASE_URL",
        )
    elif is_anothers:
        yield bad(
            "role",
            f"{ANOTHERS}: pages and the console's search show those",
            "lead DATABASE_READ_URL to a standby of the database in DATABASE_URL, or unset it",
        )
    elif not server["standby"]:
        yield fine("role", "it takes writes itself")
    else:
        at = server["replayed"]
        yield fine("role", "standby" if at is None else f"standby, last replay {at:,.1f} s ago")
    if lag is not None and lag > LATE_SECONDS:
        yield warning(
            "lag",
            f"{lag:,.0f} s behind DATABASE_URL, and so are pages and the console's search",
            "see that it replicates (pg_stat_wal_receiver), or unset DATABASE_READ_URL",
        )


async def _is_anothers(reads: Pool, primary: Pool) -> bool:
    with suppress(PersistenceError, TimeoutError):
        return await has_anothers_messages(reads, primary, within=_WITHIN)
    return False


async def _lag(reads: Pool, primary: Pool) -> float | None:
    """Return by how many seconds the server of reads is behind; ``None`` if that is unknown."""
    with suppress(PersistenceError, TimeoutError):
        return await replay_lag(reads, primary, within=_WITHIN)
    return None
