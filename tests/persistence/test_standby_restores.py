"""A standby, where PostgreSQL lost rows: of the log that is consumed, or of its own."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from redis.asyncio import Redis

from persistence.standby.restores import Restores
from persistence.standby.takeover_rules import LogRole
from persistence.store.writer import Writer
from persistence.worker.recovery.metrics import PositionMetrics
from persistence.worker.recovery.positions import Positions
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


async def positions(pool, log: str) -> list[tuple]:
    return await pool.fetch(
        "SELECT through, transport, partition FROM log_positions WHERE transport = $1", log
    )


async def lose(pool, positions) -> None:
    """What a failover to a standby that was behind does to the messages named lost."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM messages WHERE content LIKE 'lost%'")
        await connection.executemany(
            "UPDATE log_positions SET through = $1 WHERE transport = $2 AND partition = $3",
            [tuple(row) for row in positions],
        )


@pytest.fixture
def hold_back(monkeypatch):
    """Return an event without which nothing is put back, and what a standby was told of it."""
    read, ask, go_on, told = Positions.read, Restores.are_due, asyncio.Event(), []

    async def waits(self, *args):
        await go_on.wait()
        return await read(self, *args)

    async def noted(self, *args):
        told.append(await ask(self, *args))
        return told[-1]

    monkeypatch.setattr(Positions, "read", waits)
    monkeypatch.setattr(Restores, "are_due", noted)
    return go_on, told


async def test_what_workers_put_back_comes_before_what_has_stalled(
    start, stand_by, transport, other, database_pool, hold_back, eventually
):
    early, lost, late = some("early", 3), some("lost", 25), some("late", 3)
    go_on, told = hold_back
    stand_by(role=LogRole.MIRRORED)
    worker = start(log=other, stream_batch_size=10)
    await mirror(transport, other, *early)
    await eventually(partial(drained, other))
    before = await positions(database_pool, "memory")
    await mirror(transport, other, *lost)
    await eventually(partial(drained, other))
    await eventually(partial(drained, transport))
    await worker.stop()
    await lose(database_pool, before)
    start(log=other, member="w2", stream_batch_size=10)
    await mirror(transport, other, *late)

    async def was_patient() -> bool:
        return len(told) > 1

    await eventually(was_patient)
    assert await contents(database_pool) == texts(*early)
    go_on.set()
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == texts(*early, *lost, *late)


async def test_what_this_log_alone_has_is_put_back_behind_what_the_other_log_has(
    start, stand_by, transport, other, database_pool, monkeypatch, eventually
):
    """PostgreSQL is restored to a moment before workers read this log, and they don't any more."""
    early, lost, alone = some("early", 3), some("lost", 25), some("lost-alone", 25)
    ask, told = Restores.any_is_due, []

    async def noted(self, *args):
        told.append(await ask(self, *args))
        return told[-1]

    monkeypatch.setattr(Restores, "any_is_due", noted)
    worker, standby = start(log=other, stream_batch_size=10), stand_by(role=LogRole.MIRRORED)
    await mirror(transport, other, *early)
    await eventually(partial(drained, other))
    await eventually(partial(drained, transport))
    await standby.stop()
    before = await positions(database_pool, "memory")
    notes = await database_pool.fetch("SELECT transport, partition, through FROM standby_positions")
    await mirror(transport, other, *lost)
    await eventually(partial(drained, other))
    await worker.stop()
    reads = start(log=transport, member="w2", stream_batch_size=10)
    await append(transport, *alone)
    await eventually(partial(drained, transport))
    await reads.stop()
    await lose(database_pool, before)
    for table in ("log_positions", "fences"):
        await database_pool.execute(f"DELETE FROM {table} WHERE transport = 'redis'")
    for transport_name, partition, through in notes:
        await Writer(database_pool).note_standby(
            transport_name, partition, through, await transport.identity()
        )
    stand_by(role=LogRole.MIRRORED, member="w3")
    await eventually(lambda: len(told) > PARTITIONS)
    assert all(told)
    assert await contents(database_pool) == texts(*early)
    start(log=other, member="w3", stream_batch_size=10)

    async def are_back() -> bool:
        return await contents(database_pool) == texts(*early, *lost, *alone)

    await eventually(are_back)


async def test_copies_whose_rows_are_put_back_are_no_orphans(
    start, stand_by, transport, other, database_pool, hold_back, eventually
):
    early, lost = some("early", 3), some("lost", 25)
    go_on, told = hold_back
    worker = start(log=other, stream_batch_size=10)
    await append(other, *early)
    await eventually(partial(drained, other))
    before = await positions(database_pool, "memory")
    stands = await append(other, *lost)
    await eventually(partial(drained, other))
    await worker.stop()
    await lose(database_pool, before)
    start(log=other, member="w2", stream_batch_size=10)
    stand_by()
    await mirror(other, transport, *lost[20:], mode="async", offsets=stands[20:])

    async def was_patient() -> bool:
        return len(told) > 1

    await eventually(was_patient)
    assert await contents(database_pool) == texts(*early)
    go_on.set()
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == texts(*early, *lost)


async def test_what_a_standby_puts_back_is_gone_on_with_by_the_next(
    start, stand_by, transport, database_pool, monkeypatch, eventually
):
    early, lost = some("early", 3), some("lost", 25)
    worker = start(stream_batch_size=10)
    await append(transport, *early)
    await eventually(partial(drained, transport))
    before = await positions(database_pool, "redis")
    await append(transport, *lost)
    await eventually(partial(drained, transport))
    await worker.stop()
    await lose(database_pool, before)

    read = Positions.read

    async def once(self, partition, through, *args):
        if through != before_of_partition:
            await asyncio.Event().wait()
        return await read(self, partition, through, *args)

    (before_of_partition,) = [through for through, *_ in before if through]
    monkeypatch.setattr(Positions, "read", once)
    interrupted = stand_by(member="w2")

    async def holds(count: int) -> bool:
        return len(await contents(database_pool)) == count

    await eventually(partial(holds, 13))
    await interrupted.kill()
    monkeypatch.undo()
    stand_by(member="w3")
    await eventually(partial(holds, 28))
    assert await contents(database_pool) == texts(*early, *lost)

    async def is_forgotten() -> bool:
        found = await positions(database_pool, "redis")
        return all(through is None for through, *_ in found)

    await eventually(is_forgotten)


async def test_what_the_log_still_holds_is_put_back_behind_what_it_holds_no_more(
    start, stand_by, transport, transport_settings, database_pool, eventually
):
    """Nobody reads this log any more, so no partition waits for an operator: it is told."""
    early, lost = some("early", 3), some("lost", 25)
    worker = start(stream_batch_size=10)
    await append(transport, *early)
    await eventually(partial(drained, transport))
    before = await positions(database_pool, "redis")
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
    standby = stand_by(member="w2")

    async def are_put_back() -> bool:
        return await contents(database_pool) == texts(*early, *lost[10:])

    await eventually(are_put_back)
    assert value_of(standby.metrics.of(PositionMetrics).rows_lost.labels("redis")) == 1
