"""Published positions, as Redis' own tools see them, and reads that wait at a real server."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, Topic
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport


@pytest.fixture
async def log(transport_settings):
    async with RedisTransport(transport_settings) as opened:
        yield opened


@pytest.fixture
async def redis(transport_settings):
    async with Redis(
        host=transport_settings.redis_host,
        port=transport_settings.redis_port,
        db=transport_settings.redis_stream_db,
        decode_responses=True,
    ) as client:
        yield client


async def append(log, texts: str, partition: int = 0) -> list[str]:
    outcomes = await log.publish(messages(list(texts), partition=partition, of=log))
    return [outcome.offset for outcome in outcomes]


async def shown(redis: Redis, partition: int = 0) -> tuple[str, int | None, int]:
    """The position, the lag and the number of pending records, by XINFO GROUPS."""
    (group,) = [
        one
        for one in await redis.xinfo_groups(f"msg:stream:{partition}")
        if one["name"] == WORKER_GROUP
    ]
    return group["last-delivered-id"], group["lag"], group["pending"]


async def test_xinfo_groups_shows_the_position_and_its_lag(log, redis):
    offsets = await append(log, "abcde")
    other = await append(log, "xy", partition=1)
    for place in (2, 4, 1):  # forward, to the end, and back
        await log.publish_positions(
            Topic.MESSAGES, {0: offsets[place], 1: other[0]}, group=WORKER_GROUP
        )
        assert await shown(redis) == (offsets[place], 4 - place, 0)
        assert await shown(redis, 1) == (other[0], 1, 0)
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert [part.lag for part in progress[:2]] == [4 - place, 1]
        assert [part.lost for part in progress[:2]] == [0, 0]


async def test_records_that_a_program_read_as_a_member_of_the_group_are_passed(log, redis):
    offsets = await append(log, "abcde")
    await redis.xreadgroup(WORKER_GROUP, "a person", {"msg:stream:0": ">"}, count=4)
    await log.publish_positions(Topic.MESSAGES, {0: offsets[1]}, group=WORKER_GROUP)
    assert await shown(redis) == (offsets[1], 3, 2)
    await log.publish_positions(Topic.MESSAGES, {0: offsets[4]}, group=WORKER_GROUP)
    assert await shown(redis) == (offsets[4], 0, 0)
    (progress, *_) = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert (progress.lag, progress.lost) == (0, 0)


async def test_records_that_left_the_log_unread_are_counted_before_the_position_passes_them(
    log, redis
):
    offsets = await append(log, "abcde")
    await log.publish_positions(Topic.MESSAGES, {0: offsets[0]}, group=WORKER_GROUP)
    await redis.xdel("msg:stream:0", offsets[1], offsets[2])
    await log.publish_positions(Topic.MESSAGES, {0: offsets[4]}, group=WORKER_GROUP)
    (progress, *_) = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert (progress.lag, progress.lost) == (0, 2)


async def test_passed_records_are_trimmed_and_those_of_another_group_stay(
    transport_settings, redis, eventually
):
    at_once = {"stream_retention_seconds": 0, "stream_partitions": 2}
    async with RedisTransport(transport_settings.model_copy(update=at_once)) as log:
        offsets = await append(log, "x" * 1000)
        await redis.xgroup_create("msg:stream:0", "another program", offsets[299])

        async def is_trimmed() -> bool:
            await log.publish_positions(Topic.MESSAGES, {0: offsets[-1]}, group=WORKER_GROUP)
            return await redis.xlen("msg:stream:0") < 1000

        # A clock that is set back in between makes the records younger than no time at all.
        await eventually(is_trimmed)
        # Redis trims whole nodes of some 100 records.
        assert await redis.xlen("msg:stream:0") > 700
        assert await log.reaches(Topic.MESSAGES, 0, after=offsets[299])
        assert not await log.reaches(Topic.MESSAGES, 0, after=offsets[0])


async def test_a_wait_takes_one_connection_for_all_partitions_and_ends_with_the_log(
    transport_settings, redis, eventually
):
    log = RedisTransport(transport_settings)
    async with log:
        await append(log, "a")
        before = len(await redis.client_list())
        assert contents(await log.read(Topic.MESSAGES, 0, wait=30)) == ["a"]
        assert len(await redis.client_list()) == before, "nothing had to be waited for"
        waits = [
            asyncio.create_task(log.read(Topic.MESSAGES, partition, after="1-0", wait=30))
            for partition in range(1, log.partitions)
        ]

        async def blocked() -> int:
            return sum(
                "cmd=xread" in str(c) or c["cmd"] == "xread" for c in await redis.client_list()
            )

        async def one_is() -> bool:
            return await blocked() == 1

        await eventually(one_is)
        await append(log, "b", partition=3)
        assert contents(await waits[2]) == ["b"]
    for wait in (it for it in waits if it is not waits[2]):
        with pytest.raises(TransportUnavailable, match="closed"):
            await wait
