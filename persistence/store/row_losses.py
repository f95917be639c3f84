"""The record of rows that PostgreSQL lost, among the actions of operators.

Metrics end with their process. This stays, so that every process and command can show it.
"""

from __future__ import annotations

import msgspec

from persistence.database.pool import Connection
from persistence.operator_actions import record_done

__all__ = ["RowLoss", "record_row_loss", "row_losses"]

_GONE = "rows are gone"
_RETURNED = "rows were lost"

_KNOWN = """
SELECT split_part(target, '/', 1) AS log, action = $1 AS are_gone,
    count(DISTINCT target) AS partitions,
    greatest(extract(epoch FROM now() - max(at)), 0)::float8 AS seconds
FROM operator_actions
WHERE action = $1 AND at > now() - interval '30 days'
    OR action = $2 AND at > now() - interval '1 day'
GROUP BY 1, 2 ORDER BY 1, 2
"""


class RowLoss(msgspec.Struct, frozen=True, rename="camel"):
    """Rows of acknowledged messages that PostgreSQL lacked, in some partitions of ``log``.

    ``are_gone``: the log does not hold all their records. Otherwise workers have inserted them
    again. ``seconds`` is the time since the latest such loss.
    """

    log: str
    partitions: int
    are_gone: bool
    seconds: float


async def record_row_loss(
    connection: Connection, *, who: str, log: str, partition: int, are_gone: bool, position: str
) -> None:
    """Record what the process ``who`` found at a position that PostgreSQL has."""
    await record_done(
        connection,
        who=who,
        action=_GONE if are_gone else _RETURNED,
        target=f"{log}/{partition}",
        why=f"PostgreSQL's position is {position or 'the beginning'}",
        result="the log no longer holds all their records" if are_gone else "inserted again",
    )


async def row_losses(connection: Connection) -> list[RowLoss]:
    """Return the losses of rows, by log: those that are gone for 30 days, the others for one."""
    rows = await connection.fetch(_KNOWN, _GONE, _RETURNED)
    return [RowLoss(**row) for row in rows]
