"""The copies that the shadow of a phase is missing, from the gap ledger (``shadow_gaps``)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from persistence.database.pool import Connection
from persistence.fleet.log_choice import Choice, choices
from persistence.fleet.migration_state import MigrationState

__all__ = ["MissingCopies", "missing_copies", "missing_now"]

_MISSING = """
SELECT coalesce(sum(records), 0)::bigint AS records,
    array_agg(DISTINCT partition) FILTER (WHERE partition IS NOT NULL) AS partitions
FROM shadow_gaps
WHERE transport = $1 AND shadow = $2 AND repaired_at IS NULL AND noted_at >= $3
"""


class MissingCopies(NamedTuple):
    """The number of messages that a shadow was not given, and the partitions of the primary."""

    choice: Choice
    records: int
    partitions: list[int]


async def missing_copies(connection: Connection, choice: Choice, *, since: str) -> MissingCopies:
    """Count what the shadow of ``choice`` was not given since a time (RFC 3339), unrepaired.

    There is none without a shadow.
    """
    row = await connection.fetchrow(
        _MISSING, choice.transport, choice.shadow, datetime.fromisoformat(since)
    )
    assert row is not None
    return MissingCopies(choice, row["records"], sorted(row["partitions"] or ()))


async def missing_now(connection: Connection, state: MigrationState) -> MissingCopies:
    """Count what the shadow of the present phase was not given since the phase was reached."""
    choice = choices(state.pair)[state.phase]
    return await missing_copies(connection, choice, since=state.reached_at)
