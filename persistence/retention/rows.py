"""A subject's rows, some at a time, without an index on the sender."""

from __future__ import annotations

from collections.abc import Sequence

from persistence.database.pool import Connection
from persistence.retention.burial import Doomed
from persistence.retention.subject import Subject

__all__ = ["UNHURRIED", "RowPage", "count_rows", "rows_of"]

UNHURRIED = "SET LOCAL statement_timeout = 0"
"""For a statement that may read a whole table: others have the server's usual time limit."""

_AT_ONCE = 500
_BLOCKS = 2048
"""How many blocks of the table one statement reads: 16 MiB."""

_OF_CONVERSATION = """
SELECT id, accepted_at, payload_key FROM messages WHERE conversation_id = $1 ORDER BY seq LIMIT $2
"""
# By row location (ctid): the planner reads those blocks and no others.
_OF_SENDER = """
SELECT id, accepted_at, payload_key FROM messages
WHERE ctid >= format('(%s,0)', $2::bigint)::tid AND ctid < format('(%s,0)', $3::bigint)::tid
    AND sender_id = $1
LIMIT $4
"""
_TABLE_BLOCKS = "SELECT pg_relation_size('messages') / current_setting('block_size')::bigint"
_COUNT = {
    "conversation": "SELECT count(*) FROM messages WHERE conversation_id = $1",
    "sender": "SELECT count(*) FROM messages WHERE sender_id = $1",
}


class RowPage:
    """Rows to delete. ``block`` is where the next page begins; ``None``: there are no more rows."""

    def __init__(self, doomed: Sequence[Doomed], block: int | None) -> None:
        self.doomed = doomed
        self.block = block


async def rows_of(connection: Connection, subject: Subject, block: int) -> RowPage:
    """Return rows of the subject, from a block of the table on."""
    if subject.kind == "conversation":
        rows = await connection.fetch(_OF_CONVERSATION, subject.value, _AT_ONCE)
        return RowPage([Doomed(*row) for row in rows], block if len(rows) == _AT_ONCE else None)
    blocks = await connection.fetchval(_TABLE_BLOCKS)
    rows = await connection.fetch(_OF_SENDER, subject.value, block, block + _BLOCKS, _AT_ONCE)
    if len(rows) == _AT_ONCE:  # deleted, they are not found again, and the rest is
        return RowPage([Doomed(*row) for row in rows], block)
    after = block + _BLOCKS
    return RowPage([Doomed(*row) for row in rows], after if after < blocks else None)


async def count_rows(connection: Connection, subject: Subject, *, within: float) -> int:
    """Return how many rows a subject has. For a sender, this reads the whole table."""
    async with connection.transaction():
        await connection.execute(UNHURRIED)
        return int(await connection.fetchval(_COUNT[subject.kind], subject.value, timeout=within))
