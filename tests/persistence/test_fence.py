"""A worker that lost its partition can write nothing there (the second of the two fences)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from persistence.chain.known_chain import KnownChain
from persistence.errors import FenceLost
from persistence.store.positions import open_position
from persistence.store.writer import insert
from tests.persistence.fences import OWN, owned
from tests.persistence.samples import message, placed, receipt


async def test_a_newer_owner_shuts_out_the_older_one(writer, fence, database_pool):
    event = message("a")
    await writer.write([placed(event)], fence)
    newer = await owned(writer, "redis", 0, 2, "other")
    with pytest.raises(FenceLost):
        await writer.write([placed(message("b")), placed(receipt(event))], fence)
    assert (await writer.write([placed(message("c"))], newer)).persisted == [0]
    rows = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    assert [row["client_message_id"] for row in rows] == ["a", "c"]
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 0


async def test_an_older_owner_is_shut_out_where_it_left_the_position(writer, fence, database_pool):
    """A vacuum frees places, so the row may come back to the one that the older owner knows."""
    await writer.write([placed(message("a"))], fence)
    newer = await owned(writer, "redis", 0, 2, "other")
    assert newer.through == fence.through
    fence.place = newer.place
    with pytest.raises(FenceLost):
        await writer.write([placed(message("b"))], fence)
    with pytest.raises(FenceLost):
        await writer.move(fence, "99999999-0")
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 1


async def test_an_owner_from_before_gets_no_position(writer, fence):
    await owned(writer, "redis", 0, 10, "new")
    with pytest.raises(FenceLost, match="epoch 10"):
        await writer.open("redis", 0, 9, "log")
    opened = await writer.open("redis", 0, 10, "log")  # asked again: its answer was lost
    assert not opened.is_new


async def test_fences_of_other_partitions_and_logs_are_their_own(writer, fence):
    await owned(writer, "redis", 1, 99, "other")
    await owned(writer, "kafka", 0, 99, "other")
    assert (await writer.write([placed(message())], fence)).persisted == [0]


async def test_opening_a_position_waits_for_the_batch_under_way(
    writer, fence, database_url, eventually, database_pool
):
    """Else the new owner could read rows that the old one is still about to commit."""
    old = await asyncpg.connect(database_url)
    under_way = old.transaction()
    await under_way.start()
    await insert(old, [placed(message())], fence)
    taking = asyncio.create_task(owned(writer, "redis", 0, 2, "other"))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    assert not taking.done()
    await under_way.commit()
    await old.close()
    assert (await taking).epoch == 2


async def test_a_batch_that_waited_while_the_fence_was_taken_writes_nothing(
    writer, fence, database_url, eventually, database_pool
):
    new = await asyncpg.connect(database_url)
    taking = new.transaction()
    await taking.start()
    await new.execute(OWN, "redis", 0, 2, "other")
    await open_position(new, "redis", 0, 2, "log")
    late = asyncio.create_task(writer.write([placed(message())], fence))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    await taking.commit()
    await new.close()
    with pytest.raises(FenceLost):
        await late
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0


async def test_a_statement_of_another_chain_writes_nothing(writer, fence, database_pool):
    chain = KnownChain(database_pool)
    await chain.begin("redis")
    with pytest.raises(FenceLost):
        await writer.write([placed(message())], fence)
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0
    fence.chain = chain.now.version
    assert (await writer.write([placed(message())], fence)).persisted == [0]
