"""A standby, where PostgreSQL lost rows: of the log that is consumed, or of its own."""

from __future__ import annotations

from functools import partial

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from persistence.standby.takeover_rules import LogRole, Originals
from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.loglib import contents
from tests.persistence.samples import PARTITIONS, message
from tests.support.metric_values import value_of
from tests.support.mirrors import append, drained, mirror
from transport.contract import Topic
from transport.message.partitioner import partition_for
from transport.redis.keys import trimmed

PATIENCE = 0.3


@pytest.fixture
def stand_by(stand_by, transport):
    """Start a standby of Redis, beside a log in memory that is consumed."""
    return partial(stand_by, transport, patience=PATIENCE, stream_batch_size=10)


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


@pytest.mark.parametrize("reads", ["a worker", "a standby alone"])
async def test_lost_rows_come_back_before_newer_ones_whoever_stores_them(
    start, stand_by, transport, other, database_pool, eventually, are_rows, reads
):
    """The standby lives on, and its memory is ahead of PostgreSQL."""
    early, lost, late = some("early", 3), some("lost", 25), some("late", 3)
    stand_by(role=LogRole.MIRRORED)
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
    start, stand_by, transport, other, database_pool, eventually, are_rows
):
    """PostgreSQL is restored to a moment before workers read this log, and they don't any more."""
    early, lost, alone = some("early", 3), some("lost", 25), some("lost-alone", 25)
    worker, standby = start(log=other, stream_batch_size=10), stand_by(role=LogRole.MIRRORED)
    await mirror(transport, other, *early)
    await eventually(partial(drained, other))
    await eventually(partial(drained, transport))
    await standby.stop()
    before = await positions(database_pool)
    await mirror(transport, other, *lost)
    await eventually(partial(drained, other))
    await worker.stop()
    reads = start(log=transport, member="w2", stream_batch_size=10)
    await append(transport, *alone)
    await eventually(partial(drained, transport))
    await reads.stop()
    await lose(database_pool, before)
    stand_by(role=LogRole.MIRRORED, member="w3")
    start(log=other, member="w3", stream_batch_size=10)
    await are_rows(*early, *lost, *alone)


async def test_copies_whose_rows_come_back_are_no_orphans(
    start, stand_by, transport, other, database_pool, eventually, are_rows, monkeypatch
):
    early, lost = some("early", 3), some("lost", 25)
    found, passed = [], Originals.passed

    async def look(self, record, *, since):
        found.append(await passed(self, record, since=since))
        return found[-1]

    monkeypatch.setattr(Originals, "passed", look)
    worker = start(log=other, stream_batch_size=10)
    await append(other, *early)
    await eventually(partial(drained, other))
    before = await positions(database_pool)
    offsets = await append(other, *lost)
    await eventually(partial(drained, other))
    await worker.stop()
    await lose(database_pool, before)
    stand_by()
    await mirror(other, transport, *lost[20:], mode="async", offsets=offsets[20:])
    await eventually(lambda: len(found) > 1)
    assert not any(found)
    assert await contents(database_pool) == texts(*early)
    start(log=other, member="w2", stream_batch_size=10)
    await are_rows(*early, *lost)
    await eventually(partial(drained, transport))


async def test_the_next_standby_continues_where_a_killed_one_was(
    start, stand_by, transport, database_pool, eventually, are_rows
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
    interrupted = stand_by(member="w2")

    async def has_begun() -> bool:
        return len(await contents(database_pool)) > len(early)

    await eventually(has_begun)
    await interrupted.kill()
    stand_by(member="w3")
    await are_rows(*early, *lost)


async def test_what_the_log_still_holds_comes_back_behind_what_it_holds_no_more(
    start, stand_by, transport, transport_settings, database_pool, eventually, are_rows
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
        standby = stand_by(member="w2")
        await are_rows(*early, *lost[10:])
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["partition"], line["position"]) == (partition, offsets[2])
    assert value_of(standby.metrics.of(PositionMetrics).rows_lost.labels("redis")) == 1
