"""The pending letters that a redrive takes: counted, locked, and recorded as redriven."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from persistence.database.pool import Connection
from persistence.dead_letters.selection import Selection, where
from persistence.tables.states import LetterState

__all__ = ["RedriveOrder", "census", "newest", "record_redriven", "take"]

_NEWEST = "SELECT coalesce(max(id), 0) FROM dead_letters"

_REDRIVEN = """
UPDATE dead_letters SET state = $4, settled_at = now(), settled_by = $2, settled_why = $3
WHERE id = ANY($1::bigint[])
"""


class RedriveOrder(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The order of a redrive: the pending letters of ``selection`` up to ``until_id``.

    Letters that were redriven ``most_redrives`` times already are left out, unless it is ``None``.
    """

    selection: Selection
    until_id: int
    most_redrives: int | None = None


async def census(
    connection: Connection, selection: Selection, most_redrives: int | None
) -> tuple[int, dict[str, int], int]:
    """Count the pending letters that a redrive would take: all, by reason, and those left out."""
    condition, values = where(selection, ("state = {}", LetterState.PENDING))
    allowed = f"(${len(values) + 1}::int IS NULL OR redrives < ${len(values) + 1})"
    sql = f"""
        SELECT reason, count(*) FILTER (WHERE {allowed}) AS taken, count(*) AS letters
        FROM dead_letters WHERE {condition} GROUP BY reason ORDER BY reason
    """  # noqa: S608 - values are arguments
    rows = await connection.fetch(sql, *values, most_redrives)
    by_reason = {row["reason"]: row["taken"] for row in rows if row["taken"]}
    taken = sum(by_reason.values())
    return taken, by_reason, sum(row["letters"] for row in rows) - taken


async def newest(connection: Connection) -> int:
    """Return the id of the newest letter; 0 if there is none."""
    return int(await connection.fetchval(_NEWEST))


async def take(
    connection: Connection, order: RedriveOrder, after: int, limit: int
) -> Sequence[asyncpg.Record]:
    """Lock and return the next pending letters, oldest first."""
    condition, values = where(
        order.selection,
        ("state = {}", LetterState.PENDING),
        ("id <= {}", order.until_id),
        ("id > {}", after or None),
        ("redrives < {}", order.most_redrives),
    )
    sql = f"""
        SELECT id, message_id, source_partition, record_key, body, header_names,
            header_values, redrives
        FROM dead_letters WHERE {condition} ORDER BY id LIMIT {limit:d}
        FOR UPDATE SKIP LOCKED
    """  # noqa: S608 - values are arguments
    return await connection.fetch(sql, *values)


async def record_redriven(
    connection: Connection, letters: Sequence[int], *, by: str, why: str
) -> None:
    """Record that letters, by their ids, were appended again."""
    await connection.execute(_REDRIVEN, letters, by, why, LetterState.REDRIVEN)
