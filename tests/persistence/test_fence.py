"""A worker that lost its partition can write nothing there (the second of the two fences)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from persistence.errors import FenceLost
from tests.persistence.samples import message, placed, receipt


async def test_a_newer_owner_shuts_out_the_older_one(writer, fence, database_pool):
    event = message("a")
    await writer.write([placed(event)], fence)
    newer = await writer.take("redis", 0, 2, "other")
    with pytest.raises(FenceLost):
        await writer.write([placed(message("b")), placed(receipt(event))], fence)
    assert (await writer.write([placed(message("c"))], newer)).persisted == [0]
    rows = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    assert [row["client_message_id"] for row in rows] == ["a", "c"]
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 0


async def test_a_fence_is_only_ever_raised(writer, database_pool):
    await writer.take("redis", 0, 10, "new")
    with pytest.raises(FenceLost, match="epoch 10"):
        await writer.take("redis", 0, 9, "old")
    row = await database_pool.fetchrow("SELECT epoch, owner FROM fences")
    assert (row["epoch"], row["owner"]) == (10, "new")
    assert (await writer.take("redis", 0, 10, "new")).epoch == 10  # asked again: lost answer


async def test_fences_of_other_partitions_and_logs_are_their_own(writer, fence):
    await writer.take("redis", 1, 99, "other")
    await writer.take("kafka", 0, 99, "other")
    assert (await writer.write([placed(message())], fence)).persisted == [0]


async def test_taking_a_fence_waits_for_the_batch_under_way(
    writer, fence, database_url, eventually, database_pool
):
    """Else the new owner could read rows that the old one is still about to commit."""
    old = await asyncpg.connect(database_url)
    under_way = old.transaction()
    await under_way.start()
    await old.execute("SELECT 1 FROM fences WHERE partition = 0 FOR SHARE")
    taking = asyncio.create_task(writer.take("redis", 0, 2, "other"))
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
    await new.execute("UPDATE fences SET epoch = 2")
    late = asyncio.create_task(writer.write([placed(message())], fence))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    await taking.commit()
    await new.close()
    with pytest.raises(FenceLost):
        await late
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0
