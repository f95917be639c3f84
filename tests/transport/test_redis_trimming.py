"""Streams do not grow for ever, and nothing goes that a group may still need."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler, settle
from transport.conformance.envelopes import contents, messages
from transport.contract import DLQ_GROUP, WORKER_GROUP, Appended, DeadLetter, Reason, Topic
from transport.errors import TransportError
from transport.redis import RedisTransport
from transport.redis.keys import trimmed

STREAM = "msg:stream:0"
NODE = 100  # entries in a node of a stream (stream-node-max-entries): whole nodes are trimmed


def _transport(server: ValkeyServer, *, seconds: int, records: int) -> RedisTransport:
    return RedisTransport.from_settings(
        short_settings(server, stream_retention_seconds=seconds, stream_retention_records=records)
    )


async def test_settled_records_go_when_there_are_more_than_are_to_be_kept(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=3600, records=500) as transport:
        worker = Settler(transport, batch=50)
        async with worker.working():
            await transport.publish(messages(["x"] * 3000, partition=0, of=transport))
            await eventually(lambda: len(worker.records) == 3000)

            async def short() -> bool:
                return bool(500 <= await client.xlen(STREAM) <= 500 + NODE)

            await eventually(short)
        stands = await transport.read(Topic.MESSAGES, 0, limit=5000)
        assert stands[-1].offset == worker.records[-1].offset


@pytest.mark.parametrize("node", [NODE, 1])
async def test_one_publication_removes_all_that_is_due(
    own_redis: ValkeyServer, client: Redis, node: int
) -> None:
    """A call removes 10,000 records at most, and steady appends may be more by the next one.

    Redis removes fewer at once where its nodes are small.
    """
    async with (
        _nodes_of(client, node),
        _transport(own_redis, seconds=0, records=0) as transport,
    ):
        for _ in range(10):
            await transport.publish(messages(["x"] * 3000, partition=0, of=transport))
        await settle(transport, 30_000)
        assert await client.xlen(STREAM) <= NODE


async def test_settled_records_go_when_they_are_old(own_redis: ValkeyServer, client: Redis) -> None:
    async with _transport(own_redis, seconds=1, records=1_000_000) as transport:
        began = time.monotonic()
        await transport.publish(messages(["x"] * 1000, partition=0, of=transport))
        assert await transport.reaches(Topic.MESSAGES, 0, after=None)
        worker = Settler(transport, batch=200)
        async with worker.working():
            await eventually(lambda: len(worker.records) == 1000)

            async def going() -> bool:
                return bool(await client.xlen(STREAM) < 1000)

            await eventually(going)
            assert time.monotonic() - began > 1.0, "not before their time"

            async def gone() -> bool:
                return bool(await client.xlen(STREAM) <= NODE)

            await eventually(gone)
        offsets = [record.offset for record in worker.records]
        first = (await transport.read(Topic.MESSAGES, 0, limit=1))[0].offset
        last_gone = offsets[offsets.index(first) - 1]
        reached = [await transport.reaches(Topic.MESSAGES, 0, after=offset) for offset in offsets]
        assert reached == sorted(reached), "what reaches far, reaches less far"
        assert not reached[offsets.index(last_gone) - 1]
        assert await transport.reaches(Topic.MESSAGES, 0, after=first)


async def test_what_was_trimmed_up_to_a_record_reaches_back_to_that_record(
    near: RedisTransport, client: Redis
) -> None:
    """Redis trims whole nodes, so of what is noted as gone some may still be there."""
    sent = await near.publish(messages(list("abcde"), partition=0, of=near))
    offsets = [outcome.offset for outcome in sent if isinstance(outcome, Appended)]

    async def reached() -> list[bool]:
        return [await near.reaches(Topic.MESSAGES, 0, after=offset) for offset in offsets]

    await client.xtrim(STREAM, minid=offsets[3], approximate=False)
    await client.set(trimmed(STREAM), offsets[2])
    assert await reached() == [False, False, True, True, True]
    await client.set(trimmed(STREAM), offsets[4])
    assert await reached() == [False, False, False, True, True]


@pytest.mark.parametrize("reads", ["by itself", "as a member"])
async def test_nothing_is_trimmed_that_any_group_has_not_passed(
    own_redis: ValkeyServer, client: Redis, reads: str
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        await transport.publish(messages([str(i) for i in range(1000)], partition=0, of=transport))
        if reads == "by itself":
            await settle(transport, 350, group="slow")
        else:
            await client.xgroup_create(STREAM, "slow", "0")
            ((_, entries),) = await client.xreadgroup("slow", "one", {STREAM: ">"}, count=700)
            await client.xack(STREAM, "slow", *(entry_id for entry_id, _ in entries[:350]))
        last = (await transport.read_back(Topic.MESSAGES, 0, limit=1))[0].offset
        for _ in range(2):
            await transport.publish_positions(Topic.MESSAGES, {0: last}, group=WORKER_GROUP)
            assert 650 <= await client.xlen(STREAM) <= 650 + NODE
        needed = (await transport.read(Topic.MESSAGES, 0, limit=1000))[-650:]
        assert contents(needed) == [str(i) for i in range(350, 1000)]


@pytest.mark.parametrize("harm", ["no position", "set forward", "deleted"])
async def test_a_log_is_kept_whole_after_the_published_position(
    own_redis: ValkeyServer, client: Redis, harm: str
) -> None:
    """Whatever another program does to the group."""
    async with _transport(own_redis, seconds=0, records=0) as transport:
        await transport.publish(messages(["x"] * 500, partition=0, of=transport))
        offsets = [it.offset for it in await transport.read(Topic.MESSAGES, 0)]
        for passed in (0, 0, 300):
            if harm == "set forward":
                await client.xgroup_setid(STREAM, WORKER_GROUP, offsets[-1])
            elif harm == "deleted":
                await client.xgroup_destroy(STREAM, WORKER_GROUP)
            if passed or harm != "no position":
                await transport.publish_positions(
                    Topic.MESSAGES, {0: offsets[passed]}, group=WORKER_GROUP
                )
            assert 499 - passed <= await client.xlen(STREAM) <= 500 - passed + NODE
        (progress, *_) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (progress.lag, progress.lost) == (199, 0)


async def test_dead_letters_are_trimmed_by_the_same_rule(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        await transport.publish(messages(["x"] * 300, partition=0, of=transport))
        records = await transport.read(Topic.MESSAGES, 0)
        await transport.dead_letter(
            [DeadLetter(r, Reason.REJECTED, "why", attempts=1, failed_at="now") for r in records]
        )
        letters = await transport.read(Topic.DEAD_LETTERS, 0)
        for letter, most in ((letters[0], 300), (letters[-1], NODE)):
            await transport.publish_positions(
                Topic.DEAD_LETTERS, {0: letter.offset}, group=DLQ_GROUP
            )
            assert most - NODE <= await client.xlen("msg:dlq") <= most


async def test_one_partition_that_fails_hinders_no_other_one(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        for partition in range(3):
            await transport.publish(messages(["x"] * 300, partition=partition, of=transport))
        last = {p: (await transport.read_back(Topic.MESSAGES, p))[-1].offset for p in range(3)}
        await client.set("{msg:stream:0}:accounts:persistence-workers", "another program's")
        await client.hset(trimmed("msg:stream:1"), "another", "program's")
        with pytest.raises(TransportError, match="msg:stream:0"):
            await transport.publish_positions(Topic.MESSAGES, last, group=WORKER_GROUP)
        assert await client.xlen("msg:stream:2") <= NODE
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert progress[2].lag == 0


@pytest.mark.parametrize("is_flushed", [False, True])
async def test_a_full_server_is_trimmed_before_the_retention_is_over(
    own_redis: ValkeyServer, client: Redis, monkeypatch: pytest.MonkeyPatch, *, is_flushed: bool
) -> None:
    """Though it may lack the library, and load none."""
    monkeypatch.setattr("transport.redis.delivery.published_positions._FULL_SECONDS", 0)
    async with _transport(own_redis, seconds=3600, records=100_000) as transport:
        await transport.publish(messages(["x"] * 1000, partition=0, of=transport))
        records = await settle(transport, 600)
        assert await client.xlen(STREAM) == 1000
        if is_flushed:
            await client.execute_command("FUNCTION", "FLUSH")
        await client.config_set("maxmemory", 1)
        try:
            await settle(transport, 200, after=records[-1])
            assert 200 <= await client.xlen(STREAM) <= 200 + NODE
        finally:
            await client.config_set("maxmemory", 0)


async def test_trimming_does_not_disturb_the_counting_of_lag(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        worker = Settler(transport, batch=100)
        for turn in range(1, 4):
            async with worker.working():
                await transport.publish(messages(["x"] * 400, partition=0, of=transport))
                await eventually(_read(worker, 405 * turn - 5))

                async def worked_off() -> bool:
                    left = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0].lag
                    return left == 0 and bool(await client.xlen(STREAM) <= NODE)

                await eventually(worked_off)
            await transport.publish(messages(["y"] * 5, partition=0, of=transport))
            progress = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
            assert (progress.lag, progress.lost) == (5, 0)


async def test_a_position_that_went_back_counts_no_record_twice(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=3600, records=500) as transport:
        await transport.publish(messages(["x"] * 600, partition=0, of=transport))
        offsets = [it.offset for it in await transport.read(Topic.MESSAGES, 0)]
        for passed in (400, 0) * 5:
            await transport.publish_positions(
                Topic.MESSAGES, {0: offsets[passed]}, group=WORKER_GROUP
            )
        assert await client.xlen(STREAM) == 600


@asynccontextmanager
async def _nodes_of(client: Redis, entries: int) -> AsyncIterator[None]:
    name = "stream-node-max-entries"
    before = (await client.config_get(name))[name]
    await client.config_set(name, entries)
    try:
        yield
    finally:
        await client.config_set(name, before)


def _read(worker: Settler, count: int) -> Callable[[], bool]:
    return lambda: len(worker.records) == count
