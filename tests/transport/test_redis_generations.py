"""Ids count the records of a stream, whatever other programs do to it."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.appends import append, append_at_last
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Progress, Topic
from transport.redis import RedisTransport

STREAM = "msg:stream:0"
GENERATIONS = f"{{{STREAM}}}:generations"


async def _progress(log: RedisTransport) -> Progress:
    return (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]


async def _ids(log: RedisTransport) -> list[tuple[int, int]]:
    records = await log.read(Topic.MESSAGES, 0, limit=10_000)
    return [(int(ms), int(n)) for ms, n in (it.offset.split("-") for it in records)]


async def test_ids_are_dense_until_another_program_appends(
    near: RedisTransport, client: Redis
) -> None:
    await append(near, messages(list("abc"), partition=0, of=near))
    await append(near, messages(list("de"), partition=0, of=near))
    await client.xadd(STREAM, {"body": "a stranger's"})
    await append(near, messages(list("fg"), partition=0, of=near))
    ids = await _ids(near)
    assert [n for _, n in ids] == [0, 1, 2, 3, 4, 0, 0, 1]
    assert len({ms for ms, _ in ids}) == 3
    assert ids == sorted(ids)


async def test_each_life_of_a_server_and_of_a_stream_begins_a_generation(
    own_redis: ValkeyServer, client: Redis
) -> None:
    seen: list[tuple[int, int]] = []

    async def note(log: RedisTransport) -> None:
        seen.append((await _ids(log))[-1])

    settings = short_settings(own_redis, redis_rescue_seconds=0)
    async with RedisTransport.from_settings(settings) as log:
        await append(log, messages(["a"], partition=0, of=log))
        await note(log)
        for harm in (("DEL", STREAM), ("FLUSHALL",)):
            await client.execute_command(*harm)
            await append(log, messages(["b"], partition=0, of=log))
            await note(log)
        await own_redis.restart()
        await append_at_last(log, "c")
        await note(log)
        await client.function_flush()  # the server lives on, and so does its generation
        await append_at_last(log, "d")
        await note(log)
    assert [n for _, n in seen] == [0, 0, 0, 0, 1]
    assert len({ms for ms, _ in seen}) == 4
    assert seen == sorted(seen)


async def test_a_time_is_found_behind_another_programs_largest_ids(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """Such ids are too large for the arithmetic of a search: then reading begins early."""
    foreign = await client.xadd(STREAM, {"body": "a stranger's"}, id="9999999999999999-0")
    async with RedisTransport.from_settings(short_settings(own_redis)) as log:
        await append(log, messages(["before"], partition=0, of=log))
        await client.xdel(STREAM, foreign)
        (before,) = await log.read(Topic.MESSAGES, 0)
        await eventually(lambda: time.time() > before.appended_at + 0.002)
        await append(log, messages(list("ab"), partition=0, of=log))
        _, *ours = await log.read(Topic.MESSAGES, 0)
        after = await log.offset_before_time(Topic.MESSAGES, 0, ours[0].appended_at)
        assert (await log.read(Topic.MESSAGES, 0, after=after))[-2:] == ours
    await client.function_flush()  # the library would begin the next generation after this one


async def test_a_program_that_appends_between_any_two_ticks_makes_no_long_list(
    near: RedisTransport, client: Redis
) -> None:
    for n in range(1500):
        await append(near, messages([f"own {n}"], partition=0, of=near))
        await client.xadd(STREAM, {"body": "a stranger's"})
    assert await client.hlen(GENERATIONS) < 12
    records = await near.read(Topic.MESSAGES, 0, limit=3000)
    for passed in (0, 1, 999, 1000, 2500, 2999):
        at = {0: records[passed].offset}
        await near.publish_positions(Topic.MESSAGES, at, group=WORKER_GROUP)
        progress = await _progress(near)
        assert (progress.lag, progress.lost, progress.appended) == (2999 - passed, 0, 3000)
        moment = records[passed].appended_at
        after = await near.offset_before_time(Topic.MESSAGES, 0, moment)
        (first,) = await near.read(Topic.MESSAGES, 0, after=after, limit=1)
        assert first.appended_at == moment
    await client.xdel(STREAM, records[2998].offset)
    await near.publish_positions(Topic.MESSAGES, {0: records[2000].offset}, group=WORKER_GROUP)
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (998, 0), "it was settled before it was removed"
