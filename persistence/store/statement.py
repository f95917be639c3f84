"""The SQL of the writer.

One statement does everything, for one partition or for several, in an order that its data
dependencies force:

1. ``bounded`` limits the wait for a lock, if the statement has rows of several partitions.
2. ``locked`` takes the advisory locks of the conversations (``persistence.store.locks``), in one
   order. So within a conversation ``seq`` is the order in which rows become visible, and a page
   cursor never skips a row. The locks come before the rows: ``seq`` is drawn as a row is inserted,
   and no row is inserted before the locks are held.
3. ``held`` locks the position of each partition until commit. Its row is also the partition's
   fence: it has the owner's epoch, and a new owner has to update it. If a partition has another
   owner, its position is not where its owner left it (a standby that was behind was promoted), or
   the chain is not the one that its owner read (``persistence.chain``), its batch is not inserted,
   and the caller learns that it lost the partition.
4. ``buried`` finds the ids whose rows were archived or erased. They are not inserted again.
5. ``placed`` inserts the messages, in log order. The unique key decides duplicates.
6. ``received`` inserts the receipts. Their foreign key is checked when the statement ends, so a
   receipt may come in the same batch as its message.
7. ``moved`` moves each position behind its batch, if every record made a row. Otherwise some record
   may be a conflict, which becomes a dead letter. Its position must not pass it before that is
   durable: nobody reads a record again that the position has passed. So the caller finds out what
   the records without a new row are, and moves the positions itself (``MOVE``).

Locks can't deadlock two statements. Each takes all its advisory locks first, in one order, and then
locks positions, and no two owners can write the same position. A new owner locks one position at a
time, and waits for nothing else while it holds it. Only rows can cause a deadlock: the same two
keys in two logs, in different orders. PostgreSQL then cancels one of the two statements, and the
writer sends it again.

A position's row is found by its place in the table, which changes with each statement. A search by
key would look through all older versions of the row, which stay for as long as any snapshot needs
them: during an hour of ``pg_dump``, every statement would cost more than the one before.

Outside a transaction block, the statement is its own transaction. When its answer arrives, it is
committed with PostgreSQL's ``synchronous_commit``.
"""

from __future__ import annotations

from collections.abc import Sequence

from persistence.store.columns import MESSAGE, RECEIPT, SENT_RECEIPT, InsertColumn

__all__ = [
    "CLASSIFY",
    "CLASSIFY_BY_KEY",
    "HELD",
    "INSERT",
    "LOCK_CLASS",
    "MOVE",
    "PROBE",
]

LOCK_CLASS = 0x63726673
"""The first key of our two-key advisory locks: they never collide with another program's."""

HELD = """
SELECT epoch, set_config('idle_in_transaction_session_timeout', '2000', true)
FROM fences WHERE transport = $1 AND partition = $2 FOR UPDATE
"""
"""The epoch that holds a fence. Locks the fence until this transaction ends.

If this process is suspended now, PostgreSQL ends the transaction after two seconds. The process
that takes the partition over waits for it.
"""

PROBE = "INSERT INTO fences (transport, partition, epoch, owner) VALUES ('probe', -2, 0, 'probe')"
"""Shows whether this role may write, in a transaction that is rolled back."""


def _batch(columns: Sequence[InsertColumn], first: int, ids: str) -> str:
    """Return SQL that turns the parameters of a batch into a table.

    The first column is the expression ``ids``; the others are the parameters after ``first``.
    """
    rest = [_array(column, number) for number, column in enumerate(columns[1:], first + 1)]
    names = ", ".join(column.name for column in columns)
    return f"unnest({', '.join([ids, *rest])}) WITH ORDINALITY AS batch ({names}, place)"


def _array(column: InsertColumn, number: int) -> str:
    # Rows have arrays of different lengths, which an array of arrays can't hold.
    of = column.type.removesuffix("[]")
    return column.form.value.format(number=number, type=of, separator=_SEPARATOR)


def _inserted(columns: Sequence[InsertColumn]) -> str:
    return ", ".join(column.name for column in columns)


def _selected(columns: Sequence[InsertColumn]) -> str:
    return ", ".join(map(_value, columns))


def _value(column: InsertColumn) -> str:
    if column.usual is not None:
        usual = column.usual if isinstance(column.usual, int) else f"'{column.usual}'"
        return f"coalesce({column.name}, {usual})"
    return f"{column.name}::{column.type}" if column.type.endswith("[]") else column.name


_SEPARATOR = 10
_FIRST_OF_MESSAGE = 11
_FIRST_OF_RECEIPT = _FIRST_OF_MESSAGE + len(MESSAGE)

_MAY_WRITE = "($3::text IS NULL OR partition = ANY ((SELECT partitions FROM owned)::int[]))"

_FENCES = """unnest($3::text::int[], $4::text::bigint[], $6::text::text[],
        $7::text::text[], $8::text::tid[], $9::text::bigint[])
        AS fence (partition, epoch, before, after, place, chain)"""
_IS_AT_FENCE = """log_positions.ctid = fence.place AND log_positions.transport = $2
        AND log_positions.partition = fence.partition AND log_positions.epoch = fence.epoch
        AND log_positions.through IN (fence.before, fence.after)
        AND fence.chain = (SELECT coalesce(max(version), 0) FROM log_chain WHERE id = 1)"""

INSERT = f"""
WITH bounded AS MATERIALIZED (
    SELECT CASE WHEN $5::text IS NOT NULL THEN set_config('lock_timeout', $5, true) END AS wait
),
locked AS MATERIALIZED (
    SELECT count(pg_advisory_xact_lock({LOCK_CLASS}, lock)) AS locks
    FROM unnest($1::text::int[]) AS lock
    WHERE (SELECT coalesce(wait, '') FROM bounded) IS NOT NULL
),
held AS MATERIALIZED (
    SELECT log_positions.partition, log_positions.ctid AS place, log_positions.through, fence.after
    FROM log_positions, {_FENCES}
    WHERE {_IS_AT_FENCE} AND (SELECT locks FROM locked) >= 0
    FOR UPDATE OF log_positions
),
owned AS MATERIALIZED (
    SELECT CASE WHEN (SELECT locks FROM locked) >= 0
        THEN coalesce(array_agg(partition), '{{}}') END AS partitions
    FROM held
),
given AS MATERIALIZED (
    SELECT ${_FIRST_OF_MESSAGE}::text::uuid[] AS messages,
        ${_FIRST_OF_RECEIPT}::text::uuid[] AS receipts
),
buried AS MATERIALIZED (
    SELECT ARRAY(
        SELECT id FROM tombstones
        WHERE id = ANY ((SELECT messages || receipts FROM given)::uuid[])
    ) AS ids
),
placed AS (
    INSERT INTO messages (transport, {_inserted(MESSAGE)})
    SELECT $2, {_selected(MESSAGE)}
    FROM {_batch(MESSAGE, _FIRST_OF_MESSAGE, "(SELECT messages FROM given)")}
    WHERE (SELECT partitions FROM owned) IS NOT NULL AND {_MAY_WRITE}
        AND batch.id <> ALL ((SELECT ids FROM buried)::uuid[])
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING id, idempotency_key
),
received AS (
    INSERT INTO message_receipts ({_inserted(RECEIPT)})
    SELECT {_selected(RECEIPT)}
    FROM {_batch(SENT_RECEIPT, _FIRST_OF_RECEIPT, "(SELECT receipts FROM given)")}
    WHERE (SELECT partitions FROM owned) IS NOT NULL AND {_MAY_WRITE}
        AND batch.message_id <> ALL ((SELECT ids FROM buried)::uuid[])
    ON CONFLICT DO NOTHING
    RETURNING message_id, user_id, state
),
moved AS (
    UPDATE log_positions SET through = CASE WHEN (SELECT count(*) FROM placed)
            + (SELECT count(*) FROM received)
            = (SELECT cardinality(messages) + cardinality(receipts) FROM given)
        THEN held.after ELSE held.through END
    FROM held
    WHERE log_positions.ctid = held.place
    RETURNING log_positions.partition, log_positions.ctid::text AS place, log_positions.through
)
SELECT (SELECT partitions FROM owned) AS owned,
    (SELECT array_agg(ARRAY[partition::text, place, through]) FROM moved) AS moved,
    placed_count, placed, received_count, received
FROM (
    SELECT count(*) AS placed_count,
        CASE WHEN count(*) < (SELECT cardinality(messages) FROM given)
            THEN array_agg(id || '/' || idempotency_key) END AS placed
    FROM placed
) AS messages, (
    SELECT count(*) AS received_count,
        CASE WHEN count(*) < (SELECT cardinality(receipts) FROM given)
            THEN array_agg(message_id || '/' || state || '/' || user_id) END AS received
    FROM received
) AS receipts
"""  # noqa: S608 - constants only
"""Insert batches. Returns the new rows' names only if some rows are not new, which is rare.

The positions move if all rows are new. Otherwise they stay, and their rows get another place. So a
later statement moves them only in a PostgreSQL that has this one: after a failover to a server
without it, the position is at the earlier place.

$1 locks, in the order to take them; $2 transport; $3 and $4 the fences' partitions and epochs (null
without fences); $5 the longest wait for a lock, in ms (null: the session's setting); $6 and $7 the
positions before and after the statement (a repeated statement may find the latter); $8 the places
of the positions' rows; $9 the versions of the chain that the owners read, 0 if there was none; $10
the separator of texts; then the columns of the messages and of the
receipts, each from its uuid on. Arrays are sent as literals, or in their column's form.
"""

MOVE = """
UPDATE log_positions SET through = fence.after
FROM unnest($2::text::int[], $3::text::bigint[], $4::text::text[], $5::text::text[],
    $6::text::tid[]) AS fence (partition, epoch, before, after, place)
WHERE log_positions.ctid = fence.place AND log_positions.transport = $1
    AND log_positions.partition = fence.partition AND log_positions.epoch = fence.epoch
    AND log_positions.through IN (fence.before, fence.after)
RETURNING log_positions.partition, log_positions.ctid::text AS place
"""
"""Move positions after an insert that left them. Parameters as ``INSERT``'s $2 to $8."""

CLASSIFY = """
SELECT id::text, idempotency_key, fingerprint FROM messages WHERE id = ANY($1::uuid[])
UNION ALL
SELECT id::text, NULL, fingerprint FROM tombstones WHERE id = ANY($1::uuid[])
"""
"""The rows and tombstones that have the ids of duplicates. $1 ids."""

CLASSIFY_BY_KEY = """
SELECT idempotency_key, fingerprint FROM messages WHERE idempotency_key = ANY($1::text[])
"""
"""The rows that have the keys of duplicates whose own id has no such row. $1 keys.

Earlier releases made rows with another id of other producers' records.
"""
