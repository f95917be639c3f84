"""The record of rows that were put back, among the actions of operators.

Metrics end with their process. This stays, so that every process and command can show it.
"""

from __future__ import annotations

import msgspec

from persistence.database.pool import Connection
from persistence.operator_actions import record_done

__all__ = ["ACCEPTED", "RowsPutBack", "record_put_back", "rows_put_back"]

ACCEPTED = "accept gap"
"""The action of an operator who accepted that rows are gone."""
_PUT_BACK = "put rows back"

_LAST_DAY = """
SELECT split_part(target, '/', 1) AS log,
    coalesce(sum(result::bigint) FILTER (WHERE action = $1), 0)::bigint AS rows,
    count(DISTINCT target) FILTER (WHERE action = $2) AS accepted,
    greatest(extract(epoch FROM now() - max(at)), 0)::float8 AS seconds
FROM operator_actions
WHERE action IN ($1, $2) AND at > now() - interval '1 day'
GROUP BY 1 ORDER BY 1
"""


class RowsPutBack(msgspec.Struct, frozen=True, rename="camel"):
    """Rows that PostgreSQL lost, and that workers stored again from ``log`` in the last day.

    ``accepted`` is the number of partitions whose other rows an operator accepted as gone.
    ``seconds`` is the time since the latest of either.
    """

    log: str
    rows: int
    accepted: int
    seconds: float


async def record_put_back(
    connection: Connection, *, who: str, log: str, partition: int, rows: int, why: str
) -> None:
    """Record that the process ``who`` stored so many ``rows`` of a partition again."""
    target = f"{log}/{partition}"
    await record_done(
        connection, who=who, action=_PUT_BACK, target=target, why=why, result=str(rows)
    )


async def rows_put_back(connection: Connection) -> list[RowsPutBack]:
    """Return the rows that were put back in the last day, by log."""
    rows = await connection.fetch(_LAST_DAY, _PUT_BACK, ACCEPTED)
    return [RowsPutBack(**row) for row in rows]
