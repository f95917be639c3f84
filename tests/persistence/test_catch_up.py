"""Rows that PostgreSQL lost are put back, while the log and the operator do something as well.

PostgreSQL is set back by hand here; ``test_failover`` promotes a standby.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from otel.metrics import Metrics
from persistence.errors import FenceLost
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.recovery.gaps import Gap, accept
from persistence.worker.recovery.log_begin import before_first, holds_all
from persistence.worker.recovery.metrics import PositionMetrics
from persistence.worker.recovery.positions import Positions
from persistence.worker.worker import worker_context
from tests.persistence.loglib import append, lag
from tests.persistence.samples import PARTITIONS, message
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from transport.contract import WORKER_GROUP, Topic
from transport.message.partitioner import partition_for
from transport.redis import RedisTransport
from transport.redis.keys import trimmed

RETENTION = 1  # seconds
P = partition_for("conv", PARTITIONS)


@pytest.fixture
def crossfade(database_url, transport_settings, tmp_path):
    """Run a command on the test's log and database."""
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_HOST": transport_settings.redis_host,
        "REDIS_PORT": str(transport_settings.redis_port),
        "REDIS_STREAM_DB": str(transport_settings.redis_stream_db),
        "STREAM_PARTITIONS": str(PARTITIONS),
    }
    return partial(Crossfade.fork, cwd=tmp_path, **settings)


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

    await eventually(done, timeout=20)


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


@pytest.fixture
async def brief(transport_settings) -> AsyncIterator[RedisTransport]:
    """A log that keeps acknowledged records for a second."""
    small = {
        "stream_partitions": PARTITIONS,
        "stream_lease_ms": 1000,
        "stream_retention_seconds": RETENTION,
    }
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
async def test_records_that_go_while_rows_are_put_back_are_not_skipped(
    left: str, start, transport, database_pool, trim, monkeypatch
) -> None:
    """The log held all when it began, and was full a moment later."""
    running = start(stream_batch_size=10)
    early, lost, late = some("early", 3), some("lost", 60), some("late", 3)
    await persisted(transport, *early)
    behind = await positions(database_pool)
    await persisted(transport, *lost)
    await running.kill()
    await lose(database_pool, "lost", behind)
    await append(transport, *late)
    held = [r.offset for r in await transport.read(Topic.MESSAGES, P)]
    first_left = held[40] if left == "some" else held[len(early) + len(lost)]
    read, pages = Positions.read, 0

    async def meanwhile(self, *what):
        nonlocal pages
        pages += 1
        if pages == 2:
            await trim(first_left)
        return await read(self, *what)

    monkeypatch.setattr(Positions, "read", meanwhile)
    running = start(member="w2", stream_batch_size=10)
    await eventually(lambda: running.consumer.status().paused, timeout=20)
    assert "no longer holds" in running.consumer.status().paused[0].error
    assert value_of(running.metrics.of(PositionMetrics).rows_lost.labels("redis")) == 1
    assert await names(database_pool) == names_of(early, lost[:10])


async def test_a_log_that_notes_no_trimming_holds_what_follows_the_place_before_its_first(
    transport, transport_settings
) -> None:
    """A release before this one trimmed it, and the gap was accepted: nothing is lost again."""
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


async def test_the_log_keeps_what_is_acknowledged_while_postgresql_is_down(
    start, brief, database_pool
) -> None:
    """The outage is longer than the retention, and ends with a failover to a server behind."""
    start(log=brief)
    early, lost, late = some("early", 3), some("lost", 20), some("late", 2)
    await persisted(brief, *early)
    behind = await positions(database_pool)
    await persisted(brief, *lost)
    await database_pool.execute("ALTER TABLE messages RENAME TO messages_away")
    began = time.monotonic()
    await append(brief, *late)
    # Not a wait for anything to happen: the log has had the time to remove what it must not.
    await eventually(lambda: time.monotonic() > began + 4 * RETENTION, timeout=20)
    held = {record.offset for record in await brief.read(Topic.MESSAGES, P)}
    assert len(held) >= len(lost) + len(late)
    async with database_pool.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE messages_away RENAME TO messages")
        await set_back(connection, "lost", behind)

    async def all_there() -> bool:
        return await names(database_pool) == names_of(early, lost, late)

    await eventually(all_there, timeout=20)

    async def trimmed_again() -> bool:
        return len(await brief.read(Topic.MESSAGES, P)) < len(lost)

    await eventually(trimmed_again, timeout=20)


@pytest.mark.parametrize("is_behind", [False, True])
async def test_rows_may_be_lost_until_postgresql_is_found_where_it_was_left(
    is_behind: bool, transport, database_pool, database_url
) -> None:
    """Until then the log keeps acknowledged records. No new message is written meanwhile."""

    async def restore(_records) -> int:
        raise AssertionError("nothing is to be put back")

    settings = PersistenceSettings(database_url=database_url)
    context = worker_context(transport, database_pool, settings, Metrics(), "w1")
    async with transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member="w1") as consumer:
        claim = await anext(consumer.claims())
        position = PartitionPosition(claim, context, restore, asyncio.Event(), keeps=True)
        await position.open()
        await position.move("5-0")
        assert not position.may_have_lost_rows()
        await database_pool.execute("ALTER TABLE log_positions RENAME TO away")
        looking = asyncio.create_task(position.look())
        await eventually(position.may_have_lost_rows)
        await database_pool.execute("ALTER TABLE away RENAME TO log_positions")
        await looking
        if is_behind:
            await database_pool.execute("UPDATE log_positions SET through = '4-0'")
            await position.look()
            assert position.may_have_lost_rows(), "a statement may be under way, or not"
            with pytest.raises(FenceLost):
                await position.look()
            assert position.may_have_lost_rows()
        else:
            await position.look()
            assert not position.may_have_lost_rows()


async def test_a_partition_that_waits_for_an_operator_says_so_when_its_claim_is_a_new_one(
    start, transport, transport_settings, database_pool, trim
) -> None:
    """The lease ended, as if the process had been suspended; it got the partition again."""
    running = start()
    await persisted(transport, *some("early", 3))
    behind = await positions(database_pool)
    await persisted(transport, *some("lost", 5))
    await running.stop()
    await lose(database_pool, "lost", behind)
    await append(transport, *some("late", 1))
    await trim([record.offset for record in await transport.read(Topic.MESSAGES, P)][8])
    running = start(member="w2")
    await eventually(lambda: running.consumer.status().paused, timeout=20)
    where, counts = transport_settings, running.metrics.of(PositionMetrics)
    async with Redis(
        host=where.redis_host, port=where.redis_port, db=where.redis_stream_db, protocol=2
    ) as client:
        with capture_logs() as logs:
            await client.delete(f"{{msg:stream:{P}}}:lease:{WORKER_GROUP}")
            await eventually(lambda: value_of(counts.rows_lost.labels("redis")) == 2, timeout=20)
            await eventually(lambda: any("Fence lost" in line["event"] for line in logs))
    assert "no longer holds" in running.consumer.status().paused[0].error
    assert value_of(counts.lost.labels("redis", str(P))) == 1


async def test_accept_gap_gives_up_nothing_that_the_log_holds(
    start, transport, database_pool, trim, crossfade
) -> None:
    """No worker waits there now: the service was stopped."""
    running = start()
    early, gone, held, late = (some(kind, 5) for kind in ("early", "lost-a", "lost-b", "late"))
    await persisted(transport, *early)
    behind = await positions(database_pool)
    await persisted(transport, *gone, *held)
    offsets = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    await running.stop()
    await lose(database_pool, "lost", behind)
    refused = await crossfade("db", "accept-gap", "redis", str(P), "--why", "too soon", "--yes")
    assert await refused.ends() == 1
    assert f"partition {P} of redis does not wait" in refused.text
    await trim(offsets[10])
    accepted = await crossfade("db", "accept-gap", "redis", "--all-waiting", "--why", "x", "--yes")
    assert await accepted.ends() == 0, accepted.text
    assert f"partition {P} of redis lacks rows" in accepted.text
    start(member="w2")
    await persisted(transport, *late)
    assert await names(database_pool) == names_of(early, held, late)
    done = await database_pool.fetch("SELECT action, target, result FROM operator_actions")
    assert [tuple(row)[:2] for row in done] == [
        ("accept gap", f"redis/{P}"),
        ("put rows back", f"redis/{P}"),
    ]
    assert done[1]["result"] == str(len(held))


async def test_a_gap_that_is_no_more_is_not_accepted(transport, writer, database_pool) -> None:
    """A worker went on between the look at the gap and the answer to it."""
    fence = await writer.take("redis", 0, 1, "w1")
    await writer.move(fence, "7-0")
    gap = Gap(0, "1-0", "5-0")
    assert not await accept(transport, database_pool, gap, who="me", why="too late")
    assert await writer.position("redis", 0) == "7-0"
    assert await database_pool.fetchval("SELECT count(*) FROM operator_actions") == 0


async def test_accept_gap_refuses_a_partition_that_is_well(
    start, transport, database_pool, crossfade
) -> None:
    start()
    await persisted(transport, *some("early", 2))

    async def all_are_owned() -> list | None:
        found = await positions(database_pool)
        return found if len(found) == PARTITIONS else None

    before = await eventually(all_are_owned)
    refused = await crossfade("db", "accept-gap", "redis", str(P), "--why", "loop", "--yes")
    assert await refused.ends() == 1
    assert f"partition {P} of redis does not wait" in refused.text
    refused = await crossfade("db", "accept-gap", "redis", "99", "--why", "loop", "--yes")
    assert await refused.ends() == 1
    assert f"redis has no partition 99: it has {PARTITIONS}, counted from 0" in refused.text
    assert await positions(database_pool) == before


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


async def restore_to_before_it_was_read(database_pool) -> None:
    """Leave what PostgreSQL has of a log that no worker read: another log's owners, and no rows."""
    await lose(database_pool, "lost", [])
    await database_pool.execute("UPDATE fences SET transport = 'kafka'")
    await database_pool.execute("DELETE FROM log_positions")


@pytest.mark.parametrize("followed", [5, 3, None])
async def test_a_log_that_is_read_after_another_begins_where_a_standby_noted_that_it_was(
    start, transport, database_pool, followed
) -> None:
    """Its standby acknowledged what the other log's workers persisted, and left no fence.

    Workers then read it, and PostgreSQL was restored to a moment when they did not. Where no
    standby had followed the log by then, all of its records may lack their rows.
    """
    running, lost, late = start(), some("lost", 5), some("late", 2)
    await persisted(transport, *lost)
    offsets = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    await running.stop()
    await restore_to_before_it_was_read(database_pool)
    if followed is not None:
        noted = offsets[followed - 1]
        await Writer(database_pool).note_standby("redis", P, noted, await transport.identity())
    running = start(member="w2")
    await persisted(transport, *late)
    assert await names(database_pool) == names_of(lost[followed or 0 :], late)
    restored = running.metrics.of(PositionMetrics).restored
    assert value_of(restored.labels("redis")) == len(lost) - (followed or 0)
    assert await database_pool.fetchval("SELECT count(*) FROM standby_positions") == 0


async def test_a_partition_goes_on_where_the_log_lost_what_came_after_a_standbys_note(
    start, transport, database_pool, trim
) -> None:
    """Perhaps all of it has rows: a standby that was killed could not note more."""
    running, lost, late = start(), some("lost", 5), some("late", 2)
    await persisted(transport, *lost)
    offsets = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    await running.stop()
    await restore_to_before_it_was_read(database_pool)
    await Writer(database_pool).note_standby("redis", P, offsets[0], await transport.identity())
    await trim(offsets[3])
    running = start(member="w2")
    await persisted(transport, *late)
    assert await names(database_pool) == names_of(lost[3:], late)
    told = running.metrics.of(PositionMetrics)
    assert value_of(told.rows_lost.labels("redis")) == 1


async def test_what_a_standby_noted_of_another_log_counts_for_nothing(
    start, transport, database_pool
) -> None:
    """The name means another log since then, as after a change of address."""
    running, lost = start(), some("lost", 5)
    await persisted(transport, *lost)
    (*_, last) = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    await running.stop()
    await restore_to_before_it_was_read(database_pool)
    await Writer(database_pool).note_standby("redis", P, last, "another log")
    start(member="w2")
    await persisted(transport, *some("late", 2))
    assert await names(database_pool) == names_of(lost, some("late", 2))
