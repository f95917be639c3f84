"""Make the summaries anew that BRIN indexes have of pages whose rows were deleted.

A summary only grows. Of pages that were filled five times it says that nearly any id may be there,
and any time: a search for an id then reads four fifths of the table, and the archive all of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from persistence.database.pool import Pool, using
from persistence.errors import PersistenceError

__all__ = ["StaleSummaries"]

_log = structlog.get_logger(__name__)

_AT_ONCE = 1024
# VACUUM holds the same lock. PostgreSQL cancels an autovacuum for a session that has waited for
# deadlock_timeout (1 s), so we wait for less.
_WAIT = "SET LOCAL lock_timeout = '100ms'"
# Only the owner of an index may do it. Others' summaries grow.
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


class StaleSummaries:
    """Pages of ``messages`` whose rows were deleted, until their summaries are made anew."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._blocks = set[int]()

    def add(self, blocks: Iterable[int]) -> None:
        """Note pages of which rows were deleted."""
        self._blocks.update(blocks)

    async def renew(self) -> None:
        """Make the summaries anew. Those for which it is no time now are left for the next call."""
        while self._blocks:
            blocks = sorted(self._blocks)[:_AT_ONCE]
            try:
                async with using(self._pool) as connection, connection.transaction():
                    await connection.execute(_WAIT)
                    await connection.execute(_RENEW, blocks)
            except PersistenceError as error:
                _log.info(
                    "Summaries of deleted rows stay until the next file is archived",
                    pages=len(self._blocks),
                    error=str(error),
                )
                return
            self._blocks.difference_update(blocks)
