"""A comparison of logs that stand still reads nothing, and misses nothing that comes."""

from __future__ import annotations

import time

import pytest
from aiokafka import AIOKafkaProducer

from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.follower import Follower
from migration_guide.parity.log_look import LogLook, look_at
from migration_guide.parity.result import ParityResult
from tests.parity.mirroring import every, send
from tests.parity.still_log import EPOCH, StillLog
from tests.parity.test_backfill import counts
from transport.contract import Topic, Transport

LIMITS = ParityLimits(settle=5.0)


@pytest.fixture
async def pair():
    """Two logs of two partitions each, with a message and its copy in both, compared once."""
    redis, kafka = StillLog("redis", 2), StillLog("kafka", 2)
    for partition in (0, 1):
        of = redis.put(partition, 1.0, conversation=f"c{partition}", partition=partition)
        kafka.put(
            partition,
            1.1,
            accepted=1.0,
            conversation=f"c{partition}",
            of=of,
            mode="sync",
            partition=partition,
        )
    follower = Follower(redis, kafka, since=EPOCH, limits=LIMITS)
    await follower.start()
    await follower.round(look=await at(3.0, redis, kafka))
    yield follower, redis, kafka
    follower.close()


async def at(moment: float, *logs: StillLog) -> LogLook:
    """Look at the logs at a second of theirs."""
    return (await look_at(logs))._replace(moment=EPOCH + moment)


def reads(*logs: StillLog) -> list[int]:
    return [log.reads for log in logs]


async def test_nothing_is_read_of_logs_that_stand_still(pair):
    follower, *logs = pair
    before = reads(*logs)
    for moment in range(4, 10):
        assert await follower.round(look=await at(moment, *logs)) == 0
    assert reads(*logs) == before
    assert counts(follower.report()) == {ParityResult.MATCHED: 2}
    assert follower.judged_until == EPOCH + 9 - LIMITS.settle


async def test_a_group_that_grew_is_read_and_the_others_are_not(pair):
    follower, redis, kafka = pair
    of = redis.put(2, 4.0, conversation="c1", partition=1)
    kafka.put(2, 4.1, accepted=4.0, conversation="c1", of=of, mode="sync", partition=1)
    asked: list[int] = []
    read = kafka.read

    async def spied(topic: Topic, partition: int, **more: object) -> object:
        asked.append(partition)
        return await read(topic, partition, **more)

    kafka.read = spied
    assert await follower.round(look=await at(6.0, redis, kafka)) == 2
    assert set(asked) == {1}
    assert counts(follower.report()) == {ParityResult.MATCHED: 3}


async def test_what_lacks_its_copy_is_told_though_nothing_more_comes(pair):
    follower, redis, kafka = pair
    redis.put(2, 4.0, conversation="c0")
    await follower.round(look=await at(6.0, redis, kafka))
    assert counts(follower.report())[ParityResult.NOT_YET_COMPARABLE] == 1
    await follower.round(look=await at(10.0, redis, kafka))
    assert counts(follower.report())[ParityResult.MISSING_IN_SHADOW] == 1


async def test_a_log_that_can_not_tell_where_it_ends_is_read(pair):
    follower, redis, kafka = pair
    kafka.appended = [None, None]
    await follower.round(look=await at(4.0, redis, kafka))
    before = kafka.reads
    await follower.round(look=await at(5.0, redis, kafka))
    assert kafka.reads > before


async def test_a_round_that_failed_is_made_up_for(pair):
    """What it did not come to was not drained after its look."""
    follower, redis, kafka = pair
    read = kafka.read
    of = redis.put(2, 4.0, conversation="c1", partition=1)
    kafka.put(2, 4.1, accepted=4.0, conversation="c1", of=of, mode="sync", partition=1)

    async def broken(*_what: object, **_more: object) -> object:
        raise ConnectionError

    kafka.read = broken
    with pytest.raises(ConnectionError):
        await follower.round(look=await at(5.0, redis, kafka))
    kafka.read = read
    await follower.round(look=await at(6.0, redis, kafka))
    assert counts(follower.report()) == {ParityResult.MATCHED: 3}


async def test_a_transaction_that_was_open_is_read_when_it_ends(
    redis_log, kafka_log, both_settings, eventually
):
    """Its records are there, and can't be read: their partition ends behind them all the time."""
    logs: tuple[Transport, Transport] = (redis_log, kafka_log)
    await send(*logs, range(20))
    follower = Follower(*logs, since=time.time() - 60, limits=ParityLimits(settle=0.0))
    await follower.start()
    await follower.round(look=await look_at(logs))
    assert await follower.round(look=await look_at(logs)) == 0
    (record, *_) = await every(kafka_log)
    async with AIOKafkaProducer(
        bootstrap_servers=both_settings.kafka_bootstrap_servers,
        transactional_id=both_settings.kafka_topic,
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(
            both_settings.kafka_topic, b"another's", partition=record.partition
        )
        for _ in range(2):
            assert await follower.round(look=await look_at(logs)) == 0
        await producer.commit_transaction()

    async def is_read() -> bool:  # its marker comes a moment after the commit
        return await follower.round(look=await look_at(logs)) == 1

    await eventually(is_read)
    follower.close()
