"""An index that summarizes pages forgets what was archived or erased from them."""

from __future__ import annotations

import asyncio
import re

import pytest

from persistence.housekeeping import Housekeeper
from persistence.retention.archiver import Archiver
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from persistence.store.writer import insert
from tests.payloads.stores import opened
from tests.persistence.samples import message, placed

_OLD = {
    "client_message_id": "client_message_id = '300'",
    "correlation_id": "correlation_id = 'corr-300'",
    "created_at": "created_at < now() - interval '30 days'",
}
_ROWS = 600


@pytest.fixture
def archiver(database_pool, tmp_path):
    return Archiver(database_pool, opened(f"file://{tmp_path}/archive"), days=30)


async def _add_old_rows(pool) -> None:
    async with pool.acquire() as connection:
        await insert(connection, [placed(message(str(number))) for number in range(_ROWS)])
        await connection.execute("UPDATE messages SET created_at = now() - interval '40 days'")
        await connection.execute("VACUUM (ANALYZE) messages")
        for name in ("client_message_id_bloom", "correlation_id_bloom", "created_at"):
            # Also of the range that is not full yet.
            await connection.execute(
                "SELECT brin_summarize_range($1::text::regclass, block)"
                " FROM generate_series(0, pg_relation_size('messages') / 8192) AS block",
                f"messages_{name}_idx",
            )


async def _pages_read(pool, name: str) -> int:
    """Return how many pages an index leads to in looking for an archived row."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT FROM messages WHERE {_OLD[name]}"
        )
    assert f"messages_{name}" in plan
    return sum(map(int, re.findall(r'"Lossy Heap Blocks": (\d+)', plan)))


async def test_no_index_leads_to_pages_of_archived_rows(database_pool, archiver):
    await _add_old_rows(database_pool)
    for name in _OLD:
        assert await _pages_read(database_pool, name) > 0
    assert (await archiver.archive(asyncio.Event())).rows == _ROWS
    assert {name: await _pages_read(database_pool, name) for name in _OLD} == dict.fromkeys(_OLD, 0)


async def test_while_a_vacuum_has_the_table_it_is_left_to_the_next_file(database_pool, archiver):
    await _add_old_rows(database_pool)
    async with database_pool.acquire() as vacuum, vacuum.transaction():
        await vacuum.execute("LOCK TABLE messages IN SHARE UPDATE EXCLUSIVE MODE")
        assert (await archiver.archive(asyncio.Event())).rows == _ROWS
    assert await _pages_read(database_pool, "created_at") > 0
    async with database_pool.acquire() as connection:
        await insert(connection, [placed(message("another"))])
        await connection.execute("UPDATE messages SET created_at = now() - interval '40 days'")
    assert (await archiver.archive(asyncio.Event())).rows == 1
    assert {name: await _pages_read(database_pool, name) for name in _OLD} == dict.fromkeys(_OLD, 0)


async def test_housekeeping_does_it_where_nobody_else_did(database_pool, archiver, eventually):
    """After an erasure; and after an archive whose process was killed before the summaries."""
    await _add_old_rows(database_pool)
    erasure = Erasure(database_pool, Subject("conversation", "conv"), [], None)
    await erasure.run(by="me@here")
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0
    for name in _OLD:
        assert await _pages_read(database_pool, name) > 0
    stop = asyncio.Event()
    house = asyncio.create_task(Housekeeper(database_pool, interval=0).run(stop))

    async def renewed() -> bool:
        return not await database_pool.fetchval("SELECT count(*) FROM freed_pages")

    await eventually(renewed)
    stop.set()
    await house
    assert {name: await _pages_read(database_pool, name) for name in _OLD} == dict.fromkeys(_OLD, 0)
