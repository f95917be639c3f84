"""Entries of Redis that are removed by hand, and PostgreSQL's position."""

from __future__ import annotations

from redis.asyncio import Redis

from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.loglib import append, contents, lag
from tests.persistence.samples import PARTITIONS, message
from tests.support.metric_values import value_of
from transport.contract import WORKER_GROUP, Topic
from transport.message.partitioner import partition_for

PARTITION = partition_for("conv", PARTITIONS)


async def test_records_removed_by_hand_unread_stop_no_partition(
    transport, transport_settings, start, database_pool, eventually
):
    """They are counted as lost, and once."""
    running = start()
    await append(transport, message("early", "conv", "early"))

    async def settled() -> bool:
        return await lag(transport) == 0

    await eventually(settled)
    await database_pool.execute("ALTER TABLE messages RENAME TO messages_away")
    await append(transport, *(message(f"gone{n}", "conv", "gone") for n in range(2)))

    await eventually(lambda: running.consumer.status().paused)
    await running.kill()
    where = transport_settings
    async with Redis(
        host=where.redis_host, port=where.redis_port, db=where.redis_stream_db, protocol=2
    ) as client:
        await client.xtrim(transport.location.messages + f":{PARTITION}", maxlen=0)
    await database_pool.execute("ALTER TABLE messages_away RENAME TO messages")
    again = start(member="w2")
    await eventually(settled)
    assert again.consumer.status().paused == []

    async def has_passed_them() -> bool:
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        through = await database_pool.fetchval(
            "SELECT through FROM log_positions WHERE partition = $1", PARTITION
        )
        return through == progress[PARTITION].end

    await eventually(has_passed_them)
    assert rows_lost(again) == 1
    await append(transport, message("late", "conv", "late"))

    async def is_written() -> bool:
        return await contents(database_pool) == ["early", "late"]

    await eventually(is_written)
    await again.kill()
    again = start(member="w3")
    await append(transport, message("later", "conv", "later"))
    await eventually(lambda: again.count("persisted") == 1)
    assert again.consumer.status().paused == []
    assert rows_lost(again) == 0
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert progress[PARTITION].lost == 2


def rows_lost(worker) -> float:
    return value_of(worker.metrics.of(PositionMetrics).rows_lost.labels("redis"))
