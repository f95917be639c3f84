"""PostgreSQL's position alone decides which dead letters are indexed; the group only shows it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.position import DEAD_LETTERS
from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.loglib import indexed
from tests.persistence.samples import message, record
from tests.support.kafka import fresh_settings
from tests.support.metric_values import value_of
from transport.clock import timestamp
from transport.contract import DLQ_GROUP, DeadLetter, Reason, Topic
from transport.kafka import KafkaTransport


@pytest.fixture
async def kafka(kafka_node):
    settings = fresh_settings(kafka_node.bootstrap)
    async with KafkaTransport(settings.model_copy(update={"stream_partitions": 1})) as opened:
        yield opened


@pytest.fixture(params=["other", "transport", "kafka"], ids=["memory", "redis", "kafka"])
def log(request):
    """A log with dead letters."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def index(start, log):
    """Start an indexer of the log."""

    def begin(member: str = "i1"):
        return start(DeadLetterIndexer, member, log=log, stream_poll_interval_ms=100)

    return begin


async def bury(log, *keys: str) -> list[str]:
    """Append a dead letter for each key; return the offsets of all that the log has."""
    dead = [record(message(key)) for key in keys]
    await log.dead_letter(
        [DeadLetter(one, Reason.REJECTED, "why", 3, timestamp(1.0)) for one in dead]
    )
    return [found.offset for found in await log.read(Topic.DEAD_LETTERS, 0)]


async def listed(pool) -> list[str]:
    rows = await pool.fetch("SELECT log_offset FROM dead_letters ORDER BY id")
    return [row["log_offset"] for row in rows]


async def are_listed(pool, offsets: list[str]) -> bool:
    return await listed(pool) == offsets


async def position(pool) -> tuple[str, str]:
    row = await pool.fetchrow(
        "SELECT through, log FROM log_positions WHERE partition = $1", DEAD_LETTERS
    )
    return row["through"], row["log"]


async def set_back(pool, through: str) -> None:
    """Do what a standby that was behind has done: later rows and the position are gone."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE log_positions SET through = $1", through)
        await connection.execute("DELETE FROM dead_letters WHERE log_offset > $1", through)


async def test_the_position_moves_with_the_rows_and_the_group_shows_it(
    index, log, database_pool, eventually
):
    index()
    offsets = await bury(log, "a", "b", "c")
    await eventually(lambda: indexed(log))
    assert await listed(database_pool) == offsets
    assert await position(database_pool) == (offsets[-1], await log.identity())
    (standing,) = [
        one for one in await log.groups() if one.ours and one.topic is Topic.DEAD_LETTERS
    ]
    assert (standing.lag, standing.members) == (0, 0)


async def test_what_postgresql_lost_is_indexed_again_while_no_letter_comes(
    index, log, database_pool, eventually
):
    index()
    offsets = await bury(log, "a", "b", "c")
    await eventually(lambda: indexed(log))
    await set_back(database_pool, offsets[0])
    await eventually(lambda: are_listed(database_pool, offsets))


async def test_what_postgresql_lost_is_indexed_before_what_comes_next(
    index, log, database_pool, eventually
):
    running = index()
    offsets = await bury(log, "a", "b", "c")
    await eventually(lambda: indexed(log))
    await running.stop()
    await set_back(database_pool, offsets[0])
    offsets = await bury(log, "d")
    index("i2")
    await eventually(lambda: are_listed(database_pool, offsets))


async def test_a_position_of_another_log_is_none(index, log, database_pool, eventually):
    """The address led to another log for a while; its offsets were higher."""
    await database_pool.execute(
        "INSERT INTO log_positions (transport, partition, epoch, through, log)"
        " VALUES ($1, $2, 0, '9999999999999', 'another')",
        log.name,
        DEAD_LETTERS,
    )
    offsets = await bury(log, "a", "b")
    index()
    await eventually(lambda: are_listed(database_pool, offsets))
    assert await position(database_pool) == (offsets[-1], await log.identity())


async def test_a_log_that_lost_its_end_is_read_from_its_last_record(
    index, log, database_pool, eventually
):
    offsets = await bury(log, "a")
    beyond = f"{int(offsets[0].partition('-')[0]) + 10**12}"
    beyond += "-0" if "-" in offsets[0] else ""
    await log.publish_positions(Topic.DEAD_LETTERS, {0: offsets[0]}, group=DLQ_GROUP)
    await database_pool.execute(
        "INSERT INTO log_positions (transport, partition, epoch, through, log)"
        " VALUES ($1, $2, 0, $3, $4)",
        log.name,
        DEAD_LETTERS,
        beyond,
        await log.identity(),
    )
    running = index()
    left = (offsets[0], await log.identity())

    async def went_back() -> bool:
        return await position(database_pool) == left

    await eventually(went_back)
    offsets = await bury(log, "b")
    await eventually(lambda: are_listed(database_pool, offsets[1:]))
    assert value_of(running.metrics.of(PositionMetrics).rows_lost.labels(log.name)) == 0


async def test_a_killed_indexer_is_followed_by_another(index, log, database_pool, eventually):
    killed = index()
    await bury(log, "a")
    await eventually(lambda: indexed(log))
    await killed.kill()
    index("i2")
    offsets = await bury(log, "b")
    await eventually(lambda: are_listed(database_pool, offsets))


async def test_two_indexers_at_once_list_each_dead_letter_once(
    index, log, database_pool, eventually
):
    """Without heartbeats each takes the other for dead, and takes the partition from it."""
    index("i1")
    index("i2")
    for key in "abcdefgh":
        offsets = await bury(log, key)
        await eventually(lambda offsets=offsets: are_listed(database_pool, offsets))


@pytest.mark.parametrize("moved", ["destroyed", "forward", "back"])
async def test_a_group_that_another_program_moves_changes_nothing(
    start, transport, transport_settings, database_pool, eventually, moved
):
    running = start(DeadLetterIndexer, "i1", stream_poll_interval_ms=100)
    await bury(transport, "a", "b")
    await eventually(lambda: indexed(transport))
    await running.stop()
    await bury(transport, "c")
    async with Redis(
        host=transport_settings.redis_host,
        port=transport_settings.redis_port,
        db=transport_settings.redis_stream_db,
    ) as redis:
        if moved == "destroyed":
            await redis.xgroup_destroy("msg:dlq", DLQ_GROUP)
        else:
            await redis.xgroup_setid("msg:dlq", DLQ_GROUP, "$" if moved == "forward" else "0")
    start(DeadLetterIndexer, "i2", stream_poll_interval_ms=100)
    offsets = await bury(transport, "d")
    await eventually(lambda: are_listed(database_pool, offsets))
    await eventually(lambda: indexed(transport))


async def test_a_group_that_is_deleted_is_shown_again_while_no_dead_letter_comes(
    start, transport, transport_settings, eventually, monkeypatch
):
    """Kafka deletes the offsets of a group that commits none for a week."""
    monkeypatch.setattr("persistence.dead_letters.indexer._PUBLISH_AGAIN_SECONDS", 0.0)
    start(DeadLetterIndexer, "i1", stream_poll_interval_ms=100)
    offsets = await bury(transport, "a", "b")
    await eventually(lambda: indexed(transport))
    async with Redis(
        host=transport_settings.redis_host,
        port=transport_settings.redis_port,
        db=transport_settings.redis_stream_db,
        decode_responses=True,
    ) as redis:
        await redis.xgroup_destroy("msg:dlq", DLQ_GROUP)

        async def is_shown() -> bool:
            return [
                (group["last-delivered-id"], group["lag"])
                for group in await redis.xinfo_groups("msg:dlq")
            ] == [(offsets[-1], 0)]

        await eventually(is_shown)
