"""Rows in space that an archive or an erasure freed cost about as much as rows in new pages."""

from __future__ import annotations

import json

import asyncpg

_INSERT = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset)
SELECT id, id::text, id::text, 'c', 's', md5(id::text), '{}', repeat('x', 64), 'text', 'f', now(),
    'redis', 0, '0-0'
FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)) AS made
"""
_PAGES = "SELECT pg_relation_size('messages') / current_setting('block_size')::int"
_BATCH = 500


async def _wal_of_a_row(connection: asyncpg.Connection) -> float:
    """Return the bytes of the cheapest of some batches.

    Another one may be the first after a checkpoint to change a page, which is then written whole.
    """
    found = []
    for _ in range(4):
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {_INSERT}", _BATCH)
        found.append(json.loads(plan)[0]["Plan"]["WAL Bytes"] / _BATCH)
    return min(found)


async def test_a_row_in_freed_pages_writes_little_more_wal_than_one_in_new_pages(database_pool):
    """With a Bloom filter for each 128 pages it would be 9 kB more."""
    async with database_pool.acquire() as connection:
        await connection.execute(_INSERT, 10_000)
        await connection.execute("VACUUM messages")  # so that each range has its filter
        new = await _wal_of_a_row(connection)
        await connection.execute(
            "DELETE FROM messages WHERE seq < (SELECT min(seq) + 5000 FROM messages)"
        )
        await connection.execute("VACUUM messages")
        pages = await connection.fetchval(_PAGES)
        freed = await _wal_of_a_row(connection)
        assert await connection.fetchval(_PAGES) == pages, "the rows are in new pages"
    assert freed < 2.5 * new
