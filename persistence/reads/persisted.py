"""Which messages have rows, and up to where partitions have theirs, as of one moment.

Two queries could be answered by two servers, with a failover in between: a row that the first one
still had is then neither in the second one nor behind the position.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from persistence.database.pool import Pool, using

__all__ = ["Persisted", "persisted"]


class Persisted(NamedTuple):
    """The state of some messages and partitions in PostgreSQL.

    ``rows`` has the ids of the messages that have a row. ``positions`` has the position of each
    partition that has one in the log; it is empty before the first record.
    """

    rows: frozenset[str]
    positions: Mapping[int, str]


_PERSISTED = """
SELECT NULL AS id, partition, through FROM log_positions
WHERE transport = $1 AND log = $4 AND partition = ANY($2::int[])
UNION ALL
SELECT id::text, NULL, NULL FROM messages WHERE id = ANY($3::uuid[])
"""


async def persisted(
    pool: Pool,
    transport: str,
    log: str,
    partitions: Collection[int],
    message_ids: Collection[str],
) -> Persisted:
    """Return the state of messages and of a log's partitions, in one snapshot.

    Args:
        pool: Connections to PostgreSQL.
        transport: The log's name.
        log: The log's identity: positions in another one don't count.
        partitions: The partitions.
        message_ids: The messages.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        found = await connection.fetch(
            _PERSISTED, transport, list(partitions), list(message_ids), log
        )
    return Persisted(
        rows=frozenset(row["id"] for row in found if row["id"] is not None),
        positions={row["partition"]: row["through"] for row in found if row["id"] is None},
    )
