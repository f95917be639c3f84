"""Logs that were retired. No process accepts messages into one, and its name is not used again.

A retirement is recorded before the log is removed. So a process that starts meanwhile with old
settings either reads the record, or is seen by the operator's second look. The name stays: rows
have positions under it, and another log of that name would have other records there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from persistence.database.pool import Connection, Pool, using
from transport.errors import ConfigurationError

__all__ = [
    "RETIRED",
    "is_retired",
    "must_not_be_retired",
    "read_retired",
    "refuse_retired",
    "retire_log",
    "retired_logs",
]

RETIRED = """
SELECT jsonb_object_agg(name, format('by %s on %s: %s', who, to_char(at, 'YYYY-MM-DD'), why))
FROM retired_logs WHERE {which}
"""
"""Logs that were retired, as JSON: who did it, when and why, by name. Null if none was."""

_RETIRED = RETIRED.format(which="$1::text[] IS NULL OR name = ANY($1)")

_RETIRE = "INSERT INTO retired_logs (name, who, why) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"


async def retire_log(connection: Connection, name: str, *, who: str, why: str) -> None:
    """Record, within a transaction, that the log is retired."""
    await connection.execute(_RETIRE, name, who, why)


async def is_retired(connection: Connection, name: str) -> bool:
    """Return, within a transaction, whether the log was retired."""
    return await connection.fetchval(_RETIRED, [name]) is not None


async def retired_logs(
    pool: Pool, names: Collection[str] | None = None, *, within: float | None = None
) -> dict[str, str]:
    """Return who retired a log, when and why, by name.

    Args:
        pool: the database.
        names: only these logs.
        within: bounds, in seconds, the wait for a connection and the wait for its answer.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    asked = None if names is None else list(names)
    async with using(pool, within=within) as connection:
        return read_retired(await connection.fetchval(_RETIRED, asked, timeout=within))


async def must_not_be_retired(
    pool: Pool, names: Collection[str], *, within: float | None = None
) -> None:
    """Check that none of the logs was retired.

    Raises:
        ConfigurationError: a log was retired.
        Outage: PostgreSQL can't answer now.
    """
    refuse_retired(await retired_logs(pool, names, within=within))


def read_retired(text: str | None) -> dict[str, str]:
    """Return the retired logs in the answer to ``RETIRED``."""
    return msgspec.json.decode(text or "{}", type=dict[str, str])


def refuse_retired(found: Mapping[str, str]) -> None:
    """Refuse retired logs: raise unless ``found`` is empty.

    Raises:
        ConfigurationError: ``found`` names a log that was retired.
    """
    for name, story in found.items():
        raise ConfigurationError(
            f"{name} was retired {story}. A message that is accepted into it would be lost with "
            "it: name the log that is used now in TRANSPORT, TRANSPORT_SHADOW and CONSUME_FROM. "
            "The name is not used again; a new log needs another label or number of partitions"
        )
