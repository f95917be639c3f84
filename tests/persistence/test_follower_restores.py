"""A follower, where PostgreSQL lost rows: of the log that is consumed, or of its own."""

from __future__ import annotations

from functools import partial

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.loglib import contents
from tests.persistence.samples import PARTITIONS, message
from tests.support.metric_values import value_of
from tests.support.mirrors import append, drained, mirror
from transport.contract import Topic
from transport.message.partitioner import partition_for
from transport.redis.keys import trimmed


@pytest.fixture
def follow(follow, transport):
    """Start a follower of Redis."""
    return partial(follow, transport, stream_batch_size=10)


def some(kind: str, count: int):
    return [message(f"{kind}{n:02}", "conv", f"{kind}{n:02}") for n in range(count)]


def texts(*events) -> list[str]:
    return [event.content for event in events]


async def positions(pool) -> list[tuple]:
    return await pool.fetch("SELECT through, transport, partition FROM log_positions")


async def lose(pool, positions) -> None:
    """What a failover to a standby that was behind does to the messages named lost."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM messages WHERE content LIKE 'lost%'")
        await connection.executemany(
            "UPDATE log_positions SET through = $1 WHERE transport = $2 AND partition = $3",
            [tuple(row) for row in positions],
        )


@pytest.fixture
def are_rows(database_pool, eventually):
    """Wait until the rows are those of these messages, in this order."""

    async def wait(*events) -> None:
        async def are_there() -> bool:
            return len(await contents(database_pool)) >= len(events)

        await eventually(are_there)
        assert await contents(database_pool) == texts(*events)

    return wait


@pytest.mark.parametrize("reads", ["a worker", "a follower alone"])
async def test_lost_rows_come_back_before_newer_ones_whoever_stores_them(  # noqa: PLR0913
    start, follow, mirrored, transport, other, database_pool, eventually, are_rows, reads
):
    """The follower lives on, and its memory is ahead of PostgreSQL."""
    await mirrored(transport, other)
    early, lost, late = some("early", 3), some("lost", 25), some("late", 3)
    follow()
    worker = start(log=other, stream_batch_size=10)
    await mirror(transport, other, *early)
    await eventually(partial(drained, other))
    await eventually(partial(drained, transport))
    before = await positions(database_pool)
    await mirror(transport, other, *lost)
    await eventually(partial(drained, other))
    await eventually(partial(drained, transport))
    await worker.stop()
    await lose(database_pool, before)
    await mirror(transport, other, *late)
    if reads == "a worker":
        start(log=other, member="w2", stream_batch_size=10)
    await are_rows(*early, *lost, *late)
    await eventually(partial(drained, transport))


async def test_what_this_log_alone_has_comes_back_behind_what_both_logs_have(
    start, follow, mirrored, transport, other, database_pool, eventually, are_rows
):
    """PostgreSQL is restored to a moment before workers read this log, and they don't any more."""
    chain = await mirrored(transport, other)
    early, lost, alone = some("early", 3), some("lost", 25), some("lost-alone", 25)
    worker, follower = start(log=other, stream_batch_size=10), follow()
    await mirror(transport, other, *early)
    await eventually(partial(drained, other))
    await eventually(partial(drained, transport))
    await follower.stop()
    before = await positions(database_pool)
    await mirror(transport, other, *lost)
    await eventually(partial(drained, other))
    await worker.stop()
    await chain.update(lambda now: now.closed("memory"))
    reads = start(log=transport, member="w2", stream_batch_size=10)
    await append(transport, *alone)
    await eventually(partial(drained, transport))
    await reads.stop()
    await lose(database_pool, before)
    follow(member="w3")
    start(log=other, member="w3", stream_batch_size=10)
    await are_rows(*early, *lost, *alone)


async def test_the_next_follower_continues_where_a_killed_one_was(
    start, follow, transport, database_pool, eventually, are_rows
):
    """No worker reads this log any more."""
    early, lost = some("early", 3), some("lost", 25)
    worker = start(stream_batch_size=10)
    await append(transport, *early)
    await eventually(partial(drained, transport))
    before = await positions(database_pool)
    await append(transport, *lost)
    await eventually(partial(drained, transport))
    await worker.stop()
    await lose(database_pool, before)
    interrupted = follow(member="w2")

    async def has_begun() -> bool:
        return len(await contents(database_pool)) > len(early)

    await eventually(has_begun)
    await interrupted.kill()
    follow(member="w3")
    await are_rows(*early, *lost)


async def test_what_the_log_still_holds_comes_back_behind_what_it_holds_no_more(
    start, follow, transport, transport_settings, database_pool, eventually, are_rows
):
    """The loss is counted and logged, and no partition waits."""
    early, lost = some("early", 3), some("lost", 25)
    worker = start(stream_batch_size=10)
    await append(transport, *early)
    await eventually(partial(drained, transport))
    before = await positions(database_pool)
    await append(transport, *lost)
    await eventually(partial(drained, transport))
    await worker.stop()
    await lose(database_pool, before)
    partition = partition_for("conv", PARTITIONS)
    offsets = [record.offset for record in await transport.read(Topic.MESSAGES, partition)]
    where = transport_settings
    async with Redis(
        host=where.redis_host, port=where.redis_port, db=where.redis_stream_db, protocol=2
    ) as client:
        stream = f"msg:stream:{partition}"
        await client.xtrim(stream, minid=offsets[13], approximate=False)
        await client.set(trimmed(stream), offsets[12])
    with capture_logs() as logs:
        follower = follow(member="w2")
        await are_rows(*early, *lost[10:])
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["partition"], line["position"]) == (partition, offsets[2])
    assert value_of(follower.metrics.of(PositionMetrics).rows_lost.labels("redis")) == 1


async def test_the_old_log_is_read_first_again_when_the_rows_below_its_mark_are_lost(
    start, follow, mirrored, transport, other, database_pool, eventually, are_rows
):
    """The new log's position is untouched, so only the chain keeps its worker from reading on."""
    lost, kept, late = some("lost", 25), some("kept", 1), some("late", 3)
    await append(transport, *lost)
    chain = await mirrored(transport, other)
    earlier = await database_pool.fetchrow("SELECT * FROM log_chain")
    # Nothing but its next statement shows this worker what was lost.
    worker = start(log=other, member="w2", stream_poll_interval_ms=5000)
    follower = follow()

    async def is_open() -> bool:
        await chain.load()
        return chain.now.is_unbounded(other.name)

    await eventually(is_open)
    await follower.stop()
    await mirror(transport, other, *kept)
    await eventually(lambda: worker.count("persisted") == 1)
    await lose(database_pool, [])
    await database_pool.execute("DELETE FROM log_positions WHERE transport = 'redis'")
    await database_pool.execute("DELETE FROM log_chain")
    await database_pool.execute("INSERT INTO log_chain VALUES ($1, $2, $3, $4)", *earlier)
    await mirror(transport, other, *late)
    await eventually(lambda: worker.consumer.status().waiting)
    assert await contents(database_pool) == texts(*kept)
    follow(member="w3")
    await are_rows(*kept, *lost, *late)
    await eventually(partial(drained, other))
