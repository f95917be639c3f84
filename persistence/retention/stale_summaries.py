"""Rebuild the summaries that BRIN indexes have of pages from which rows were deleted.

A summary only grows. After its pages were filled five times, it says that nearly any id, and any
time, may be there. Then a search for an id reads four fifths of the table, and the archiver all of
it.

``persistence.retention.burial`` records the pages in the transaction that deletes. So any process
may delete, and it need not live until the rebuild.
"""

from __future__ import annotations

import structlog

from persistence.database.pool import Pool, using
from persistence.errors import PersistenceError

__all__ = ["renew_summaries"]

_log = structlog.get_logger(__name__)

_DELETIONS = 64
_PAGES = 1024
# VACUUM holds the same lock. PostgreSQL cancels an autovacuum for a session that has waited for
# deadlock_timeout (1 s), so we wait for less.
_WAIT = "SET LOCAL lock_timeout = '100ms'"
_TAKE = """
DELETE FROM freed_pages WHERE id IN (
    SELECT id FROM freed_pages ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
) RETURNING blocks
"""
# Only the owner of an index may do it. Summaries of other owners' indexes grow.
_RENEW = """
WITH brin AS (
    SELECT indexrelid::regclass AS index, coalesce((
        SELECT option_value::bigint FROM pg_options_to_table(reloptions)
        WHERE option_name = 'pages_per_range'
    ), 128) AS pages
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    WHERE indrelid = 'messages'::regclass AND amname = 'brin' AND indisvalid
        AND pg_has_role(relowner, 'USAGE')
)
SELECT brin_desummarize_range(index, block), brin_summarize_range(index, block) FROM (
    SELECT DISTINCT index, block / pages * pages AS block
    FROM brin, unnest($1::bigint[]) AS block ORDER BY index, block
) AS ranges
"""


async def renew_summaries(pool: Pool) -> None:
    """Rebuild the summaries of all freed pages. If that fails now, the next call does it."""
    try:
        while await _renew_some(pool):
            pass
    except PersistenceError as error:
        _log.info("Summaries of deleted rows stay until the next time", error=str(error))


async def _renew_some(pool: Pool) -> bool:
    """Rebuild some summaries; return whether there were any."""
    async with using(pool) as connection, connection.transaction():
        await connection.execute(_WAIT)
        freed = await connection.fetch(_TAKE, _DELETIONS)
        # Many deletions left the same pages: those of a file's rows are ordered by id.
        blocks = sorted({block for row in freed for block in row["blocks"]})
        for at in range(0, len(blocks), _PAGES):
            await connection.execute(_RENEW, blocks[at : at + _PAGES])
    return bool(freed)
