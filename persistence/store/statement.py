"""The SQL of the writer.

One statement does everything, in an order that its data dependencies force:

1. ``locked``: the advisory lock of each partition, ascending. So within a partition ``seq`` is the
   order in which rows become visible, and a page cursor never skips one. It has to come first:
   ``seq`` is drawn as rows are inserted, and nothing is inserted before the lock is held.
2. ``fence``: the row that says who owns the partition, held until commit. No row: nothing is
   inserted, and the caller learns that it lost the partition.
3. ``placed``: the messages, in log order. The unique key decides duplicates.
4. ``received``: the receipts. Their foreign key is checked when the statement ends, so a receipt
   may come in the same batch as its message.

Sent outside a transaction block it is its own transaction, committed with PostgreSQL's
``synchronous_commit`` when the answer arrives.
"""

from __future__ import annotations

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
    INSERT INTO messages (
        id, idempotency_key, correlation_id, conversation_id, sender_id, client_message_id,
        recipient_ids, content, content_type, fingerprint, accepted_at, transport, partition,
        log_offset, attempts, trace_id, payload_key
    )
    SELECT id, key, correlation_id, conversation_id, sender_id, client_message_id,
        recipient_ids::text[], content, content_type, fingerprint, accepted_at, $2, partition,
        log_offset, attempts, trace_id, payload_key
    FROM unnest(
        $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
        $12::text[], $13::text[], $14::text[], $15::timestamptz[], $16::int[], $17::text[],
        $18::smallint[], $19::text[], $20::text[]
    ) WITH ORDINALITY AS batch (
        id, key, correlation_id, conversation_id, sender_id, client_message_id, recipient_ids,
        content, content_type, fingerprint, accepted_at, partition, log_offset, attempts,
        trace_id, payload_key, place
    )
    WHERE (SELECT yes FROM allowed)
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING id
),
received AS (
    INSERT INTO message_receipts (message_id, user_id, state, at, correlation_id)
    SELECT message_id, user_id, state, at, correlation_id
    FROM unnest($21::uuid[], $22::text[], $23::text[], $24::timestamptz[], $25::text[])
        AS batch (message_id, user_id, state, at, correlation_id)
    WHERE (SELECT yes FROM allowed)
    ON CONFLICT DO NOTHING
    RETURNING message_id, user_id, state
)
SELECT (SELECT yes FROM allowed) AS allowed, placed_count, placed, received_count, received
FROM (
    SELECT count(*) AS placed_count,
        CASE WHEN count(*) < cardinality($5::uuid[]) THEN array_agg(id) END AS placed
    FROM placed
) AS messages, (
    SELECT count(*) AS received_count,
        CASE WHEN count(*) < cardinality($21::uuid[])
            THEN array_agg(message_id || '/' || state || '/' || user_id) END AS received
    FROM received
) AS receipts
"""  # noqa: S608 - the one thing put in is a constant of ours
"""Insert a batch. Ids of new rows come back only when some are not new: mostly all are.

$1 partitions to lock (ascending), $2 transport, $3 and $4 the fence's partition and epoch (null
without one), $5 to $20 the messages' columns, $21 to $25 the receipts'.
"""

CLASSIFY = """
SELECT id, idempotency_key, fingerprint FROM messages
WHERE id = ANY($1::uuid[]) OR idempotency_key = ANY($2::text[])
"""
"""The rows that stood in the way of duplicates. $1 ids, $2 keys."""
