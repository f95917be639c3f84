"""Entries of Redis that are removed by hand, and PostgreSQL's position."""

from __future__ import annotations

from redis.asyncio import Redis

from persistence.worker.recovery.metrics import PositionMetrics
from tests.persistence.loglib import append, contents, lag
from tests.persistence.samples import PARTITIONS, message
from tests.support.metric_values import value_of
from transport.contract import WORKER_GROUP, Topic
from transport.message.partitioner import partition_for

PARTITION = partition_for("conv", PARTITIONS)


async def test_records_removed_by_hand_unread_stop_no_partition(
    transport, transport_settings, start, database_pool, eventually
):
    """They were not acknowledged, so PostgreSQL has lost none of them; they are counted as lost."""
    running = start()
    await append(transport, message("early", "conv", "early"))

    async def settled() -> bool:
        return await lag(transport) == 0

    await eventually(settled)
    await database_pool.execute("ALTER TABLE messages RENAME TO messages_away")
    await append(transport, *(message(f"gone{n}", "conv", "gone") for n in range(2)))

    async def are_pending() -> bool:
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return progress[PARTITION].pending == 2

    await eventually(are_pending)
    await running.kill()
    where = transport_settings
    async with Redis(
        host=where.redis_host, port=where.redis_port, db=where.redis_stream_db, protocol=2
    ) as client:
        await client.xtrim(transport.location.messages + f":{PARTITION}", maxlen=0)
    await database_pool.execute("ALTER TABLE messages_away RENAME TO messages")
    again = start(member="w2")
    await eventually(settled)  # the group has passed them
    assert again.consumer.status().paused == []
    await again.kill()
    again = start(member="w3")
    await append(transport, message("late", "conv", "late"))

    async def is_written() -> bool:
        return await contents(database_pool) == ["early", "late"]

    await eventually(is_written)
    lost = again.metrics.of(PositionMetrics).lost.labels("redis", str(PARTITION))
    assert (again.consumer.status().paused, value_of(lost)) == ([], 0)
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert progress[PARTITION].lost == 2
