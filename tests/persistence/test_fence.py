"""A worker that lost its partition can write nothing there (the second of the two fences)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from compose.process.health import worker_probe
from otel.metrics import Metrics
from persistence.errors import FenceLost
from persistence.metrics import PersistenceMetrics
from persistence.settings import PersistenceSettings
from persistence.store.batch import Fence
from persistence.store.positions import take_position
from persistence.store.statement import TAKE
from persistence.store.writer import Writer, insert
from persistence.worker.partition_worker import PartitionWorker
from persistence.worker.worker import worker_context
from tests.persistence.samples import message, placed, receipt
from tests.support.metric_values import value_of
from tests.transport.redis_backend import silence
from transport.contract import WORKER_GROUP, Topic
from transport.errors import PartitionLost
from transport.message.envelope import seal_message


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


async def test_an_older_owner_is_shut_out_where_it_left_the_position(writer, fence, database_pool):
    """A vacuum frees places, so the row may come back to the one that the older owner knows."""
    await writer.write([placed(message("a"))], fence)
    newer = await writer.take("redis", 0, 2, "other")
    assert newer.through == fence.through
    fence.place = newer.place
    with pytest.raises(FenceLost):
        await writer.write([placed(message("b"))], fence)
    with pytest.raises(FenceLost):
        await writer.move(fence, "99999999-0")
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 1


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
    await insert(old, [placed(message())], fence)
    taking = asyncio.create_task(writer.take("redis", 0, 2, "other"))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    assert not taking.done()
    await under_way.commit()
    await old.close()
    assert (await taking).epoch == 2


async def test_who_waited_for_the_first_owner_is_not_the_first(
    writer, database_url, eventually, database_pool
):
    """The first owner of all puts back what the log holds, and nobody after it does that again."""
    await database_pool.execute(
        "INSERT INTO fences (transport, partition, epoch, owner) VALUES ('redis', 0, -1, 'ingress')"
    )
    first = await asyncpg.connect(database_url)
    taking = first.transaction()
    await taking.start()
    await first.fetchval(TAKE, "redis", 0, 1, "first")
    second = asyncio.create_task(writer.take("redis", 0, 2, "second"))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    await taking.commit()
    await first.close()
    assert not (await second).is_first


async def test_a_log_that_is_written_and_was_never_read_makes_no_owner_the_second(
    writer, database_pool
):
    """A process notes the logs that it writes, also in a database that was emptied."""
    await database_pool.execute(
        "INSERT INTO fences (transport, partition, epoch, owner)"
        " VALUES ('redis', 0, -1, 'ingress'), ('kafka', 0, -1, 'ingress')"
    )
    for partition in (0, 1):
        assert (await writer.take("redis", partition, 1, "w")).is_first
    assert not (await writer.take("redis", 0, 2, "w")).is_first
    assert not (await writer.take("kafka", 0, 1, "w")).is_first, "another log was read"


async def test_a_batch_that_waited_while_the_fence_was_taken_writes_nothing(
    writer, fence, database_url, eventually, database_pool
):
    new = await asyncpg.connect(database_url)
    taking = new.transaction()
    await taking.start()
    await new.fetchval(TAKE, "redis", 0, 2, "other")
    await take_position(new, "redis", 0, 2, before=1)
    late = asyncio.create_task(writer.write([placed(message())], fence))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    await taking.commit()
    await new.close()
    with pytest.raises(FenceLost):
        await late
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0


HOUR_MS = 3_600_000


async def _fences(pool: asyncpg.Pool) -> dict[int, int]:
    rows = await pool.fetch("SELECT partition, epoch FROM fences WHERE transport = 'redis'")
    return {row["partition"]: row["epoch"] for row in rows}


async def test_a_fence_from_a_clock_that_was_ahead_stops_nobody(
    transport, start, writer, database_pool, eventually
):
    """Redis lost its data, epochs and all; the fences are of a server an hour ahead of this."""
    ahead = time.time_ns() // 1_000_000 + HOUR_MS
    zombies = [
        await writer.take("redis", partition, ahead + partition, "gone")
        for partition in range(transport.partitions)
    ]
    events = [message(f"m{n}", conversation=f"c{n}") for n in range(20)]
    await transport.publish(
        [seal_message(event, partitions=transport.partitions, traceparent=None) for event in events]
    )
    running = start()

    async def all_persisted() -> bool:
        return await database_pool.fetchval("SELECT count(*) FROM messages") == len(events)

    await eventually(all_persisted)
    fences = await _fences(database_pool)
    assert all(fences[zombie.partition] > zombie.epoch for zombie in zombies)
    for zombie in zombies:  # it wakes
        with pytest.raises(FenceLost):
            await writer.write([placed(message("late"))], zombie)
    assert not running.consumer.status().paused
    owned = running.consumer.status().epochs
    assert owned == fences, "what a process says that it owns is what it writes with"


async def test_who_is_owner_by_the_log_no_more_raises_no_fence(
    transport, start, writer, database_pool, database_url, eventually
):
    """The older owner wakes with its epoch, finds a higher fence, and may not go above it."""
    first = start(member="w1")
    await eventually(lambda: len(first.consumer.status().epochs) == transport.partitions)
    async with transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member="zombie") as consumer:
        claims = consumer.claims()
        stale = await anext(claims)
        await silence(consumer)  # not heard of any more
        await eventually(
            lambda: first.consumer.status().epochs.get(stale.partition, 0) > stale.epoch
        )
        held = first.consumer.status().epochs[stale.partition]

        async def its_heirs() -> bool:
            return (await _fences(database_pool))[stale.partition] == held

        context = worker_context(
            transport,
            database_pool,
            PersistenceSettings(database_url=database_url),
            Metrics(),
            "zombie",
        )
        await eventually(its_heirs)  # its owner by the log takes the fence a moment later
        with pytest.raises(PartitionLost):
            await PartitionWorker(stale, context, asyncio.Event()).open()
        assert await its_heirs()


async def test_a_fence_that_is_lost_again_and_again_is_told(start, eventually, monkeypatch):
    """The log gives the partitions to this process, and PostgreSQL keeps them for another."""
    taken = Writer.take

    async def stubborn(
        self: Writer, transport: str, partition: int, epoch: int, owner: str, **position: Any
    ) -> Fence:
        if partition == 1:
            raise FenceLost("partition 1 of redis is held with epoch 9", epoch + 1)
        return await taken(self, transport, partition, epoch, owner, **position)

    monkeypatch.setattr(Writer, "take", stubborn)
    running = start()
    worker = running.consumer
    paused = await eventually(lambda: worker.status().paused)
    assert [pause.dependency for pause in paused] == ["the fence of partition 1"]
    state = worker_probe(worker, required=True)()
    assert state.status == "degraded"
    assert "partition 1 of redis is held with epoch 9" in state.detail
    assert value_of(running.metrics.of(PersistenceMetrics).paused.labels("fence of redis")) == 1
