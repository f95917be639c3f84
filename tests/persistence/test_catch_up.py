"""Rows that PostgreSQL lost come back from the log, or are counted where the log lost them too.

PostgreSQL is set back by hand here; ``test_failover`` promotes a standby.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from persistence.worker.log_bounds import before_first, holds_all
from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.loglib import append, lag
from tests.persistence.samples import PARTITIONS, message
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from transport.contract import WORKER_GROUP, Topic
from transport.features.forwarding import Forwarding
from transport.message.partitioner import partition_for
from transport.redis import RedisTransport
from transport.redis.keys import trimmed

RETENTION = 3  # seconds
P = partition_for("conv", PARTITIONS)


def some(kind: str, count: int) -> list:
    return [message(f"{kind}-{n:03}", "conv", "x" * 5000) for n in range(count)]


def names_of(*sent: list) -> list[str]:
    return [message.client_message_id for part in sent for message in part]


async def names(pool) -> list[str]:
    rows = await pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    return [row["client_message_id"] for row in rows]


async def persisted(log, *events) -> None:
    await append(log, *events)

    async def done() -> bool:
        return await lag(log) == 0

    await eventually(done)


async def lose(pool, kind: str, through: list) -> None:
    """Set PostgreSQL back, as a failover to a standby that was behind does."""
    async with pool.acquire() as connection, connection.transaction():
        await set_back(connection, kind, through)


async def set_back(connection, kind: str, through: list) -> None:
    await connection.execute("DELETE FROM messages WHERE client_message_id LIKE $1", f"{kind}-%")
    await connection.executemany(
        "UPDATE log_positions SET through = $3 WHERE transport = $1 AND partition = $2",
        [(row["transport"], row["partition"], row["through"]) for row in through],
    )


async def positions(pool) -> list:
    return await pool.fetch("SELECT transport, partition, through FROM log_positions")


def rows_lost(running) -> float:
    return value_of(running.metrics.of(PositionMetrics).rows_lost.labels("redis"))


@pytest.fixture
async def brief(transport_settings) -> AsyncIterator[RedisTransport]:
    """A log that keeps settled records for three seconds."""
    small = {"stream_partitions": PARTITIONS, "stream_retention_seconds": RETENTION}
    async with RedisTransport(transport_settings.model_copy(update=small)) as log:
        yield log


@pytest.fixture
async def trim(transport_settings):
    """Have Redis forget records below an offset, and note that, as our own trimming does."""
    client = Redis(
        host=transport_settings.redis_host,
        port=transport_settings.redis_port,
        db=transport_settings.redis_stream_db,
        protocol=2,
    )
    async with client:

        async def below(offset: str) -> None:
            stream = f"msg:stream:{P}"
            last = (await client.xrevrange(stream, f"({offset}", count=1))[0][0]
            await client.xtrim(stream, minid=offset, approximate=False)
            await client.set(trimmed(stream), last)

        yield below


@pytest.mark.parametrize("left", ["some", "none"])
async def test_rows_that_the_log_no_longer_holds_are_counted_once_logged_and_passed(
    left: str, start, transport, database_pool, trim
) -> None:
    running = start()
    early, lost, late = some("early", 3), some("lost", 20), some("late", 3)
    await persisted(transport, *early)
    behind = await positions(database_pool)
    await persisted(transport, *lost)
    await running.stop()
    await lose(database_pool, "lost", behind)
    await append(transport, *late)
    held = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    gone = 12 if left == "some" else len(lost)
    await trim(held[len(early) + gone])
    with capture_logs() as logs:
        running = start(member="w2")
        await eventually(lambda: rows_lost(running))
        await eventually(lambda: running.count("persisted") == len(lost) - gone + len(late))
    assert await names(database_pool) == names_of(early, lost[gone:], late)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert "no longer holds" in line["event"]
    assert (line["partition"], line["position"]) == (P, held[len(early) - 1])
    assert not running.consumer.status().paused
    await running.stop()
    again = start(member="w3")
    await persisted(transport, *some("later", 1))
    await eventually(lambda: again.count("persisted") == 1)
    assert (rows_lost(running), rows_lost(again)) == (1, 0)


class Trimming(Forwarding):
    """A log that is trimmed before the second read, when it shows the position that went back."""

    def __init__(self, inner, trim, below: str) -> None:
        super().__init__(inner)
        self._trim = trim
        self._below = below
        self._reads = 0

    async def read(self, topic, partition, *, after=None, limit=1000, **more):
        if partition == P and after is not None and limit > 1:  # not a look at the log's bounds
            self._reads += 1
            if self._reads == 2:
                await eventually(lambda: self._shows(after))
                await self._trim(self._below)
        return await super().read(topic, partition, after=after, limit=limit, **more)

    async def _shows(self, last: str) -> bool:
        """Return whether the position in the log went back too."""
        progress = await self.inner.progress(Topic.MESSAGES, group=WORKER_GROUP)
        floor = progress[P].floor
        return floor is not None and self.sort_key(floor) <= self.sort_key(last)


async def test_records_that_go_while_rows_come_back_are_counted_as_lost(
    start, transport, database_pool, trim
) -> None:
    """The log held all when the worker began, and lost some of them a moment later."""
    running = start()
    early, lost, late = some("early", 3), some("lost", 60), some("late", 3)
    await persisted(transport, *early)
    behind = await positions(database_pool)
    await persisted(transport, *lost)
    await running.stop()
    await lose(database_pool, "lost", behind)
    await append(transport, *late)
    held = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    log = Trimming(transport, trim, held[40])
    running = start(member="w2", log=log, stream_batch_size=10)

    async def are_back() -> bool:
        return (await names(database_pool))[-3:] == names_of(late)

    await eventually(are_back)
    gone = len(early) + len(lost) + len(late) - len(await names(database_pool))
    assert gone > 0

    async def are_counted() -> bool:
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return progress[P].lost + rows_lost(running) > 0

    await eventually(are_counted)


async def test_a_log_that_was_trimmed_by_hand_holds_what_follows_the_offset_before_its_first(
    transport, transport_settings
) -> None:
    """The loss was counted, and nothing is lost again."""
    await append(transport, *some("early", 5))
    offsets = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    where = transport_settings
    async with Redis(
        host=where.redis_host, port=where.redis_port, db=where.redis_stream_db, protocol=2
    ) as client:
        await client.xtrim(f"msg:stream:{P}", minid=offsets[2], approximate=False)
    before = await before_first(transport, Topic.MESSAGES, P)
    assert before is not None
    assert await holds_all(transport, Topic.MESSAGES, P, before)
    assert not await holds_all(transport, Topic.MESSAGES, P, offsets[0])
    assert not await holds_all(transport, Topic.MESSAGES, P, "")


async def test_the_log_keeps_settled_records_while_postgresql_is_down(
    start, brief, database_pool, monkeypatch
) -> None:
    """The outage is longer than the retention, and ends with a failover to a server behind."""
    monkeypatch.setattr("persistence.worker.position_publisher._AGAIN_SECONDS", 0.5)
    start(log=brief)
    early, lost, late = some("early", 3), some("lost", 20), some("late", 2)
    await persisted(brief, *early)
    behind = await positions(database_pool)
    await persisted(brief, *lost)
    await database_pool.execute("ALTER TABLE messages RENAME TO messages_away")
    began = time.monotonic()
    await append(brief, *late)
    # Not a wait for anything to happen: the log has had the time to remove what it must not.
    await eventually(lambda: time.monotonic() > began + 2 * RETENTION)
    held = {record.offset for record in await brief.read(Topic.MESSAGES, P)}
    assert len(held) >= len(lost) + len(late)
    async with database_pool.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE messages_away RENAME TO messages")
        await set_back(connection, "lost", behind)

    async def all_there() -> bool:
        return await names(database_pool) == names_of(early, lost, late)

    await eventually(all_there)

    async def trimmed_again() -> bool:
        return len(await brief.read(Topic.MESSAGES, P)) < len(lost)

    await eventually(trimmed_again)


@pytest.mark.parametrize("head", ["whole", "trimmed"])
async def test_a_database_that_was_emptied_gets_all_that_the_log_holds(
    head: str, start, transport, database_pool, trim
) -> None:
    running = start(stream_batch_size=10)
    lost, late = some("lost", 30), some("late", 3)
    await persisted(transport, *lost)
    offsets = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    await running.stop()
    if head == "trimmed":
        await trim(offsets[12])
    for table in ("message_receipts", "message_positions", "messages", "fences", "log_positions"):
        await database_pool.execute(f"DELETE FROM {table}")
    running = start(member="w2", stream_batch_size=10)
    await persisted(transport, *late)
    kept = lost[12:] if head == "trimmed" else lost
    assert await names(database_pool) == names_of(kept, late)
    assert not running.consumer.status().paused
