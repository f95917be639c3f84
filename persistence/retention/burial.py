"""Replace rows by tombstones, so that no insert under way brings a row back.

A statement sees rows that were committed when it began. So a statement that began before a
tombstone was committed may still insert the row. Rows are therefore deleted only after every
transaction has ended that was writing rows at that time. A statement locks its tables before it
takes its snapshot, so those transactions hold such a lock. Others are not waited for: a dump or a
vacuum may take hours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.errors import Outage

__all__ = [
    "Deleted",
    "Doomed",
    "delete_rows",
    "mark_erased",
    "must_be_marked",
    "writers_ended",
]

_PAUSE = 0.02
_LONGEST = 120.0
"""In seconds. A statement of the service ends within DATABASE_TIMEOUT_SECONDS."""

# An erased message that was archived keeps the name of its file, which has to be written anew.
_ERASE = """
INSERT INTO tombstones AS held (id, accepted_at, erased_at)
SELECT DISTINCT ON (id) id, accepted_at, now()
FROM unnest($1::uuid[], $2::timestamptz[]) AS gone (id, accepted_at) ORDER BY id, accepted_at
ON CONFLICT (id) DO UPDATE SET
    erased_at = coalesce(held.erased_at, now()), fingerprint = NULL, correlation_id = NULL
WHERE held.erased_at IS NULL OR held.fingerprint IS NOT NULL
"""
_UNDER_WAY = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation IN ('messages'::regclass, 'message_receipts'::regclass)
    AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock')
"""
_UNMARKED = """
SELECT count(*) FROM unnest($1::uuid[]) AS gone (id)
WHERE NOT EXISTS (
    SELECT FROM tombstones WHERE tombstones.id = gone.id AND ($2 OR erased_at IS NOT NULL)
)
"""
_RECEIPTS = "DELETE FROM message_receipts WHERE message_id = ANY($1::uuid[])"
_POSITIONS = "DELETE FROM message_positions WHERE message_id = ANY($1::uuid[])"
_ATTEMPTS = "DELETE FROM delivery_attempts WHERE message_id = ANY($1::uuid[])"
_ROWS = """
WITH gone AS (
    DELETE FROM messages WHERE id = ANY($1::uuid[])
        AND EXISTS (SELECT FROM tombstones WHERE tombstones.id = messages.id)
    RETURNING ctid
), noted AS (
    INSERT INTO freed_pages (blocks)
    SELECT array_agg(DISTINCT (ctid::text::point)[0]::bigint) FROM gone HAVING count(*) > 0
)
SELECT count(*) FROM gone
"""


class Doomed(msgspec.Struct, frozen=True):
    """A message to delete. ``payload_key`` is its content's key in the payload store, if any."""

    id: UUID
    accepted_at: datetime
    payload_key: str | None = None


class Deleted(msgspec.Struct, frozen=True):
    """How many rows and receipts were deleted."""

    rows: int
    receipts: int


async def mark_erased(pool: Pool, doomed: Sequence[Doomed]) -> None:
    """Write the tombstones of erased messages; return once every writer of rows sees them.

    Raises:
        Outage: PostgreSQL can't do it now, or a transaction writes rows for too long. The
            tombstones may exist.
    """
    async with using(pool) as connection:
        await connection.execute(
            _ERASE, [row.id for row in doomed], [row.accepted_at for row in doomed]
        )
    await writers_ended(pool)


async def writers_ended(pool: Pool) -> None:
    """Wait until every transaction has ended that writes rows or receipts now.

    Raises:
        Outage: PostgreSQL can't answer now, or a transaction lasts too long.
    """
    ends = time.monotonic() + _LONGEST
    async with using(pool) as connection:
        left = await _under_way(connection)
        while left:
            if time.monotonic() > ends:
                raise Outage(
                    f"a transaction has been writing rows for {_LONGEST:.0f} s (in pg_locks: "
                    f"{', '.join(sorted(left))}): end it, or wait for it"
                )
            await asyncio.sleep(_PAUSE)
            left &= await _under_way(connection)


async def must_be_marked(
    connection: Connection, ids: Sequence[UUID], *, archived: bool = False
) -> None:
    """Check that messages still have their tombstones.

    They are from an earlier transaction, which PostgreSQL may have lost meanwhile.

    Args:
        connection: in the transaction that relies on them.
        ids: the messages.
        archived: whether the tombstone of an archived row suffices; otherwise it is an erased one.

    Raises:
        Outage: a tombstone is not there. Write it again.
    """
    if unmarked := await connection.fetchval(_UNMARKED, ids, archived):
        raise Outage(
            f"PostgreSQL lost the tombstones of {unmarked} messages in a failover or a restore: "
            "nothing more happens to these until there are new ones"
        )


async def delete_rows(
    connection: Connection, ids: Sequence[UUID], *, archived: bool = False
) -> Deleted:
    """Delete rows that have a tombstone, with all that belongs to them; record their pages.

    Raises:
        Outage: as ``must_be_marked`` does; nothing was deleted.
    """
    await must_be_marked(connection, ids, archived=archived)
    receipts = _count(await connection.execute(_RECEIPTS, ids))
    await connection.execute(_POSITIONS, ids)
    await connection.execute(_ATTEMPTS, ids)
    return Deleted(await connection.fetchval(_ROWS, ids), receipts)


async def _under_way(connection: Connection) -> set[str]:
    return {row["virtualtransaction"] for row in await connection.fetch(_UNDER_WAY)}


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
