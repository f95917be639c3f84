"""The SQL of the writer.

One statement does everything, in an order that its data dependencies force:

1. ``locked``: the advisory lock of each partition, ascending. So within a partition ``seq`` is the
   order in which rows become visible, and a page cursor never skips one. It has to come first:
   ``seq`` is drawn as rows are inserted, and nothing is inserted before the lock is held.
2. ``fence``: the row that names the partition's owner, held until commit. No row: nothing is
   inserted, and the caller learns that it lost the partition.
3. ``placed``: the messages, in log order. The unique key decides duplicates.
4. ``received``: the receipts. Their foreign key is checked when the statement ends, so a receipt
   may come in the same batch as its message.

Sent outside a transaction block it is its own transaction, committed with PostgreSQL's
``synchronous_commit`` when the answer arrives.
"""

from __future__ import annotations

from collections.abc import Sequence

from persistence.store.columns import MESSAGE, RECEIPT, InsertColumn

__all__ = ["CLASSIFY", "INSERT", "LOCK_CLASS", "TAKE"]

LOCK_CLASS = 0x63726673
"""The first key of our two-key advisory locks, so that they can't meet another program's."""

TAKE = """
INSERT INTO fences AS held (transport, partition, epoch, owner) VALUES ($1, $2, $3, $4)
ON CONFLICT (transport, partition) DO UPDATE SET
    epoch = greatest(held.epoch, excluded.epoch),
    owner = CASE WHEN excluded.epoch < held.epoch THEN held.owner ELSE excluded.owner END,
    taken_at = CASE WHEN excluded.epoch < held.epoch THEN held.taken_at ELSE now() END
RETURNING epoch
"""
"""Raise the fence of a partition, never lower it; returns the epoch that now holds.

$1 transport, $2 partition, $3 epoch, $4 owner.
"""


def _batch(columns: Sequence[InsertColumn], first: int) -> str:
    """Return the rows of a batch as a table; its columns are the parameters from ``first`` on."""
    parameters = ", ".join(
        # Rows have arrays of different lengths, which an array of arrays can't hold.
        f"${number}::{column.type.removesuffix('[]')}[]"
        for number, column in enumerate(columns, first)
    )
    names = ", ".join(column.name for column in columns)
    return f"unnest({parameters}) WITH ORDINALITY AS batch ({names}, place)"


def _inserted(columns: Sequence[InsertColumn]) -> str:
    return ", ".join(column.name for column in columns)


def _selected(columns: Sequence[InsertColumn]) -> str:
    return ", ".join(
        f"{column.name}::{column.type}" if column.type.endswith("[]") else column.name
        for column in columns
    )


_FIRST_OF_MESSAGE = 5
_FIRST_OF_RECEIPT = _FIRST_OF_MESSAGE + len(MESSAGE)

INSERT = f"""
WITH locked AS MATERIALIZED (
    SELECT count(pg_advisory_xact_lock({LOCK_CLASS}, partition)) AS locks
    FROM unnest($1::int[]) AS partition
),
fence AS MATERIALIZED (
    SELECT 1 FROM fences
    WHERE (SELECT locks FROM locked) >= 0 AND transport = $2 AND partition = $3 AND epoch = $4
    FOR SHARE
),
allowed AS MATERIALIZED (
    SELECT (SELECT locks FROM locked) >= 0
        AND ($4::bigint IS NULL OR EXISTS (SELECT FROM fence)) AS yes
),
placed AS (
    INSERT INTO messages (transport, {_inserted(MESSAGE)})
    SELECT $2, {_selected(MESSAGE)}
    FROM {_batch(MESSAGE, _FIRST_OF_MESSAGE)}
    WHERE (SELECT yes FROM allowed)
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING id
),
received AS (
    INSERT INTO message_receipts ({_inserted(RECEIPT)})
    SELECT {_selected(RECEIPT)}
    FROM {_batch(RECEIPT, _FIRST_OF_RECEIPT)}
    WHERE (SELECT yes FROM allowed)
    ON CONFLICT DO NOTHING
    RETURNING message_id, user_id, state
)
SELECT (SELECT yes FROM allowed) AS allowed, placed_count, placed, received_count, received
FROM (
    SELECT count(*) AS placed_count,
        CASE WHEN count(*) < cardinality(${_FIRST_OF_MESSAGE}::uuid[])
            THEN array_agg(id) END AS placed
    FROM placed
) AS messages, (
    SELECT count(*) AS received_count,
        CASE WHEN count(*) < cardinality(${_FIRST_OF_RECEIPT}::uuid[])
            THEN array_agg(message_id || '/' || state || '/' || user_id) END AS received
    FROM received
) AS receipts
"""  # noqa: S608 - what is put in are constants of ours
"""Insert a batch. Ids of new rows come back only when some are not new: mostly all are.

$1 partitions to lock (ascending), $2 transport, $3 and $4 the fence's partition and epoch (null
without one), then the messages' columns and the receipts', each from its uuid on.
"""

CLASSIFY = """
SELECT id, idempotency_key, fingerprint FROM messages
WHERE id = ANY($1::uuid[]) OR idempotency_key = ANY($2::text[])
"""
"""The rows that stood in the way of duplicates. $1 ids, $2 keys."""
