"""Archives as rows of ``row_archives``, and the tombstones of their messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.database.translation import translated
from persistence.retention.archive_file import FileFacts
from persistence.retention.rows import UNHURRIED

__all__ = ["Archive", "ArchiveTable"]

_LONGEST = 3600.0
"""In seconds. If few rows are old enough, the query reads much of the table."""

# In the order of the table, which is mostly the order of time.
_CHOSEN = """
SELECT id, accepted_at, fingerprint, nullif(correlation_id, id::text) AS correlation_id, created_at
FROM messages
WHERE created_at < $1
    AND NOT EXISTS (SELECT FROM tombstones WHERE tombstones.id = messages.id)
LIMIT $2
"""
# A row may be erased at this moment: its tombstone is the erasure's, and no file gets it.
_PLAN = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN}),
made AS (
    INSERT INTO row_archives (name, state, rows, first_at, last_at)
    SELECT '', 'planned', count(*), min(created_at), max(created_at) FROM chosen
    HAVING count(*) > 0 RETURNING id
),
buried AS (
    INSERT INTO tombstones (id, accepted_at, archive, fingerprint, correlation_id)
    SELECT chosen.id, accepted_at, made.id, fingerprint, correlation_id FROM chosen, made
    ON CONFLICT DO NOTHING
)
SELECT id FROM made
"""  # noqa: S608 - constants only
_NAME = """
UPDATE row_archives SET name = to_char(first_at AT TIME ZONE 'UTC', '"messages/"YYYY/MM/DD/')
    || lpad(id::text, 12, '0') || '.jsonl.gz'
WHERE id = $1
"""
_CUTOFF = "SELECT now() - make_interval(days => $1)"
_COUNT = "SELECT count(*) FROM messages WHERE created_at < now() - make_interval(days => $1)"
_LIST = """
SELECT id, name, state, rows, bytes, sha256 FROM row_archives
WHERE state = ANY($1::text[]) AND id > $2 ORDER BY id LIMIT $3
"""
_UNLISTED = """
SELECT name FROM unnest($1::text[]) AS found (name)
WHERE NOT EXISTS (SELECT FROM row_archives WHERE row_archives.name = found.name)
"""
_IDS = "SELECT id FROM tombstones WHERE archive = $1 AND erased_at IS NULL ORDER BY id"
_ROWS = """
SELECT id, (to_jsonb(messages) || jsonb_build_object('receipts', (
    SELECT coalesce(jsonb_agg(to_jsonb(one) - 'message_id' ORDER BY at, state, user_id), '[]')
    FROM message_receipts AS one WHERE message_id = messages.id
)))::text FROM messages WHERE id = ANY($1::uuid[]) ORDER BY id
"""
_WRITTEN = """
UPDATE row_archives SET state = $2, rows = $3, bytes = $4, sha256 = $5 WHERE id = $1
"""
_WAITS = """
SELECT coalesce(extract(epoch FROM now() - min(planned_at)), 0)::float8 FROM row_archives
WHERE state <> 'done'
"""
_DONE = "UPDATE row_archives SET state = 'done', done_at = now() WHERE id = $1"
_LEFT = "UPDATE tombstones SET archive = NULL WHERE id = ANY($1::uuid[])"


class Archive(msgspec.Struct, frozen=True):
    """A file of archived rows."""

    id: int
    name: str
    state: str
    rows: int
    bytes: int | None
    sha256: str | None


class ArchiveTable:
    """The table. Every method raises ``Outage`` when PostgreSQL can't."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def cutoff(self, days: int) -> datetime:
        """Return the moment that is ``days`` ago, by PostgreSQL's clock."""
        async with using(self._pool) as connection:
            moment: datetime = await connection.fetchval(_CUTOFF, days)
        return moment

    async def plan(self, before: datetime, most: int) -> bool:
        """Choose rows from before a moment for the next file, and write their tombstones."""
        async with using(self._pool) as connection, connection.transaction():
            await connection.execute(UNHURRIED)
            identifier = await connection.fetchval(_PLAN, before, most, timeout=_LONGEST)
            if identifier is not None:
                await connection.execute(_NAME, identifier)
        return identifier is not None

    async def count(self, days: int, *, within: float) -> int:
        """Return how many rows are older than ``days``."""
        async with using(self._pool) as connection, connection.transaction():
            await connection.execute(UNHURRIED)
            return int(await connection.fetchval(_COUNT, days, timeout=within))

    async def of_state(self, *states: str, after: int = 0, limit: int = 100) -> list[Archive]:
        """Return files in these states, oldest first."""
        async with using(self._pool) as connection:
            rows: list[Any] = await connection.fetch(_LIST, states, after, limit)
        return [Archive(*row) for row in rows]

    async def unlisted(self, names: Sequence[str]) -> list[str]:
        """Return the names among ``names`` that are no file of the table."""
        async with using(self._pool) as connection:
            return [row[0] for row in await connection.fetch(_UNLISTED, names)]

    async def ids(self, archive: int, *, lock: Connection | None = None) -> list[UUID]:
        """Return the messages of a file that were not erased.

        Args:
            archive: the file's number.
            lock: the connection to use; it must still exist.
        """
        if lock is not None:
            with translated():
                return [row["id"] for row in await lock.fetch(_IDS, archive)]
        async with using(self._pool) as connection:
            return [row["id"] for row in await connection.fetch(_IDS, archive)]

    async def documents(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return rows as the file has them, in the order of their ids."""
        async with using(self._pool) as connection:
            return {row[0]: row[1] for row in await connection.fetch(_ROWS, ids)}

    async def written(
        self, archive: Archive, facts: FileFacts, lock: Connection, *, state: str = "written"
    ) -> None:
        """Record that the file was written and read back.

        Over the connection that holds the lock: if it is lost, another process may have archived
        or erased rows of this file since it was read. Then the file is written again.
        """
        with translated():
            await lock.execute(_WRITTEN, archive.id, state, facts.rows, facts.bytes, facts.sha256)

    async def done(self, archive: Archive) -> None:
        """Record that the file's rows are deleted."""
        async with using(self._pool) as connection:
            await connection.execute(_DONE, archive.id)

    async def waits(self) -> float:
        """Return how many seconds ago the oldest unfinished file was started; 0: there is none."""
        async with using(self._pool) as connection:
            return float(await connection.fetchval(_WAITS))

    async def took_out(self, ids: Sequence[UUID]) -> None:
        """Record that no file has these messages any more."""
        async with using(self._pool) as connection:
            await connection.execute(_LEFT, ids)
