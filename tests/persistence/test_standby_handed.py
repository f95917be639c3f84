"""A standby acknowledges the records that its own process appends without a read, once settled."""

from __future__ import annotations

import asyncio
from functools import partial

import asyncpg
import pytest

from persistence.standby import standby_feed
from persistence.standby.metrics import StandbyMetrics
from persistence.standby.takeover_rules import LogRole
from tests.persistence.loglib import broken, contents, raw
from tests.persistence.samples import PARTITIONS, message, receipt
from tests.persistence.test_handed_over import reads, until_handed_over
from tests.support.metric_values import value_of
from tests.support.mirrors import append, copy_of, drained, lag, mirror, seal
from transport.contract import Topic
from transport.message.envelope import Message
from transport.redis import RedisTransport

WAITING = "SELECT pid FROM pg_locks WHERE NOT granted"


@pytest.fixture
def consumed(start, other):
    """Start a worker on the log in memory, whose copies are in Redis."""
    return partial(start, log=other, member="worker")


@pytest.fixture
def copied(other, transport):
    """Append messages to the log in memory, and copies to Redis, as one process does."""
    return partial(mirror, other, transport)


@pytest.fixture
async def handing(consumed, copied, stand_by, transport, transport_settings, eventually):
    """A standby of Redis that gets each message of this process, and a worker beside it."""
    consumed()
    standby = stand_by(transport, patience=60, stream_poll_interval_ms=60_000)
    await until_handed_over(transport, transport_settings, eventually, send=copied)
    return standby


async def test_what_this_process_appends_is_acknowledged_without_a_read(
    handing, copied, transport, transport_settings, database_pool, eventually
):
    before = await reads(transport_settings)
    acknowledged = handing.metrics.of(StandbyMetrics).acknowledged.labels("redis")
    already = value_of(acknowledged)
    sent = [message(f"c{i}", f"conv{i % 7}") for i in range(100)]
    for first in range(0, 100, 10):
        await copied(*sent[first : first + 10])
    await copied(receipt(sent[0]))
    await eventually(lambda: drained(transport))
    assert await reads(transport_settings) == before
    await eventually(lambda: value_of(acknowledged) == already + 101)
    noted = {
        str(row["message_id"]): (row["partition"], row["log_offset"])
        for row in await database_pool.fetch(
            "SELECT * FROM message_positions WHERE transport = 'redis'"
        )
    }
    standing: dict[str, tuple[int, str]] = {}  # of the message, which stands before its receipt
    for p in range(PARTITIONS):
        for record in await transport.read(Topic.MESSAGES, p):
            standing.setdefault(record.headers["messageId"].decode(), (p, record.offset))
    for event in sent:
        assert noted[event.message_id] == standing[event.message_id]


def test_partitions_look_together_after_a_whole_lull() -> None:
    """So one statement asks for all of them, and the worker had time to write their records."""
    begun = [1000 + number * 0.007 for number in range(32)]  # 32 partitions, a quarter of a second
    looks = [round(now + standby_feed.until_look(now), 6) for now in begun]
    assert all(
        look >= now + standby_feed.LULL_SECONDS for now, look in zip(begun, looks, strict=True)
    )
    assert len(set(looks)) <= 3


async def test_what_is_not_settled_is_not_acknowledged_and_seen_as_stalled(
    copied, consumed, stand_by, transport, database_pool, eventually
):
    standby = stand_by(transport)
    await eventually(lambda: len(standby.consumer.status().epochs) == PARTITIONS)
    await copied(*(message(f"c{i}", content=f"{i}") for i in range(20)))
    await eventually(lambda: standby.consumer.status().stalled)
    assert await lag(transport) == 20
    assert await contents(database_pool) == []
    consumed()
    await eventually(lambda: drained(transport))
    assert await contents(database_pool) == [f"{i}" for i in range(20)]
    assert standby.consumer.status().stalled == []


async def test_only_the_settled_beginning_is_acknowledged(
    handing, transport, other, writer, eventually
):
    """The worker has taken no notice of the last message, since its original is not there."""
    sent = [message(f"c{i}") for i in range(4)]
    await mirror(other, transport, *sent[:2])
    lost = copy_of(seal(sent[2]), "memory", "999999", "async")
    await append(transport, lost)
    await mirror(other, transport, sent[3])
    await eventually(handing.consumer.waiting)
    assert await lag(transport) == 2


async def test_a_stop_leaves_what_is_not_settled_to_the_next(
    handing, transport, database_pool, stand_by, consumed, other, eventually, monkeypatch
):
    monkeypatch.setattr(standby_feed, "LULL_SECONDS", 3600)  # the feed holds it until the stop
    await append(transport, copy_of(seal(message("c1")), "memory", "999999", "async"))
    async with asyncio.timeout(10):
        await handing.stop()
    assert await lag(transport) == 1
    monkeypatch.undo()
    standby = stand_by(transport)
    await eventually(lambda: standby.consumer.status().stalled)
    await append(other, message("c1"))
    await eventually(lambda: drained(transport))


async def test_a_question_that_failed_is_asked_again(
    handing, copied, transport, database_pool, database_url, eventually
):
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK message_positions IN ACCESS EXCLUSIVE MODE")
            await copied(*(message(f"c{i}") for i in range(10)))
            asking = await eventually(lambda: connection.fetchval(WAITING))
            await connection.execute("SELECT pg_terminate_backend($1)", asking)
            await eventually(lambda: _asks_again(connection, asking))
            assert await lag(transport) > 0
    finally:
        await connection.close()
    await eventually(lambda: drained(transport))


async def _asks_again(connection, before: int) -> bool:
    waiting = await connection.fetchval(WAITING)
    return waiting is not None and waiting != before


async def test_a_takeover_goes_on_with_what_is_appended_meanwhile(
    stand_by, transport, other, database_pool, eventually, monkeypatch
):
    """No worker will settle it, so it is not held for a lull first."""
    standby = stand_by(transport, LogRole.MIRRORED, patience=0.4)
    await eventually(lambda: len(standby.consumer.status().epochs) == PARTITIONS)

    async def persisted(number: int) -> bool:
        return len(await contents(database_pool)) == number

    for turn in range(6):
        await mirror(transport, other, message(f"c{turn}", content=f"{turn}"))
        await eventually(partial(persisted, turn + 1))
        monkeypatch.setattr(standby_feed, "LULL_SECONDS", 3600)
    await eventually(lambda: drained(transport))
    assert await contents(database_pool) == [f"{turn}" for turn in range(6)]


async def test_a_record_that_can_be_no_row_is_left_to_the_reader(
    start, stand_by, transport, database_pool, eventually
):
    """An original of this log alone, such as a producer's with a program of its own."""
    standby = stand_by(transport)
    await eventually(lambda: len(standby.consumer.status().epochs) == PARTITIONS)
    garbage = raw(b"\xff no envelope")
    nul = broken(message("c2", content="nul"))
    await append(transport, message("c1", content="1"), garbage, nul, message("c3", content="3"))
    await eventually(lambda: drained(transport))
    assert await contents(database_pool) == ["1", "3"]
    letters = await transport.read(Topic.DEAD_LETTERS, 0)
    assert sorted(letter.body for letter in letters) == sorted([garbage.body, nul.body])


async def test_records_of_other_processes_between_its_own_keep_their_order(
    handing, copied, consumed, transport, other, transport_settings, database_pool, eventually
):
    small = transport_settings.model_copy(update={"stream_partitions": PARTITIONS})
    sent: list[Message] = []
    async with RedisTransport(small) as another:
        for turn in range(30):
            mine, theirs = message(f"mine{turn}"), message(f"theirs{turn}")
            await copied(mine)
            await mirror(other, another, theirs)
            sent += (mine, theirs)
    await eventually(lambda: drained(transport))
    settled = await database_pool.fetchval(
        "SELECT count(*) FROM message_positions WHERE transport = 'redis'"
        " AND message_id::text = ANY($1)",
        [event.message_id for event in sent],
    )
    assert settled == 60


@pytest.mark.parametrize(("count", "size"), [(150, 1), (3, 400_000)], ids=["records", "bytes"])
async def test_more_than_it_may_hold_is_read(
    handing, copied, transport, transport_settings, eventually, count, size
):
    """It holds 100 records of a partition (its batch size), and a megabyte."""
    before = await reads(transport_settings)
    await copied(*(message(f"c{i}", content="x" * size) for i in range(count)))
    await eventually(lambda: drained(transport))
    assert await reads(transport_settings) > before
