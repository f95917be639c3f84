"""Streams do not grow for ever, and nothing goes that a group may still need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.transport.redis_backend import short_settings
from transport.conformance.member import ConformanceWorker, Member, contents, drain, messages, until
from transport.contract import DLQ_GROUP, WORKER_GROUP, Appended, DeadLetter, Reason, Topic
from transport.redis import RedisTransport
from transport.redis.delivery.consumer import RedisConsumer
from transport.redis.delivery.trimming import Retention
from transport.redis.keys import trimmed

PATIENCE = 10.0
STREAM = "msg:stream:0"
NODE = 100  # entries in a node of a stream (stream-node-max-entries): whole nodes are trimmed


def _transport(server: ValkeyServer, *, seconds: int, records: int) -> RedisTransport:
    return RedisTransport.from_settings(
        short_settings(server, stream_retention_seconds=seconds, stream_retention_records=records)
    )


async def test_acknowledged_records_go_when_there_are_more_than_are_to_be_kept(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=3600, records=500) as transport:
        worker = ConformanceWorker(transport, "worker", batch=50)
        async with worker.working():
            await transport.publish(messages(["x"] * 3000, partition=0, of=transport))
            await until(lambda: len(worker.records) == 3000, patience=PATIENCE)

            async def short() -> bool:
                return bool(500 <= await client.xlen(STREAM) <= 500 + 500 // 16 + 2 * NODE)

            await until(short, patience=PATIENCE)
        stands = await transport.read(Topic.MESSAGES, 0, limit=5000)
        assert stands[-1].offset == worker.records[-1].offset


@pytest.mark.parametrize("node", [NODE, 1])
async def test_one_look_removes_all_that_is_due(
    own_redis: ValkeyServer, client: Redis, node: int
) -> None:
    """A call removes 10,000 records at most, and steady appends may be more by the next look.

    Redis removes fewer at once where its nodes are small.
    """
    async with (
        _nodes_of(client, node),
        _transport(own_redis, seconds=0, records=0) as transport,
        Member(transport) as one,
    ):
        claim = await one.claim(0)
        for _ in range(10):
            await transport.publish(messages(["x"] * 3000, partition=0, of=transport))
        records = await drain(claim, 30_000, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        consumer = one.consumer
        assert isinstance(consumer, RedisConsumer)

        async def shorter() -> bool:
            return bool(await client.xlen(STREAM) < 30_000)

        await until(shorter, patience=PATIENCE)
        began = consumer.looks

        async def short() -> bool:
            return bool(await client.xlen(STREAM) <= NODE)

        await until(short, patience=PATIENCE)
        assert consumer.looks < began + 4, "a claim is trimmed in every fourth look"


async def test_acknowledged_records_go_when_they_are_old(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=1, records=1_000_000) as transport:
        began = time.monotonic()
        await transport.publish(messages(["x"] * 1000, partition=0, of=transport))
        assert await transport.reaches(Topic.MESSAGES, 0, after=None)
        worker = ConformanceWorker(transport, "worker", batch=200)
        async with worker.working():
            await until(lambda: len(worker.records) == 1000, patience=PATIENCE)

            async def going() -> bool:
                return bool(await client.xlen(STREAM) < 1000)

            await until(going, patience=PATIENCE)
            assert time.monotonic() - began > 1.0, "not before their time"

            async def gone() -> bool:
                return bool(await client.xlen(STREAM) <= NODE)

            await until(gone, patience=PATIENCE)
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


async def test_nothing_is_trimmed_that_any_group_has_not_acknowledged(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        async with Member(transport, group="slow") as slow:
            claim = await slow.claim(0)
            await transport.publish(
                messages([str(i) for i in range(1000)], partition=0, of=transport)
            )
            records = await drain(claim, 700, patience=PATIENCE)
            await claim.ack(records[349].offset)
            worker = ConformanceWorker(transport, "fast", batch=200)
            async with worker.working():
                await until(lambda: len(worker.records) == 1000, patience=PATIENCE)

                async def short() -> bool:
                    return bool(await client.xlen(STREAM) < 1000)

                await until(short, patience=PATIENCE)
                await asyncio.sleep(0.7)  # two more rounds of trimming
            assert 650 <= await client.xlen(STREAM) <= 650 + NODE
            await claim.nack()
            again = await drain(claim, 650, patience=PATIENCE)
            assert contents(again) == [str(i) for i in range(350, 1000)]
        progress = (await transport.progress(Topic.MESSAGES, group="slow"))[0]
        assert progress.lost == 0


async def test_a_log_that_nobody_acknowledges_is_kept_whole(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport, Member(transport) as idle:
        await idle.claim(0)
        await transport.publish(messages(["x"] * 500, partition=0, of=transport))
        await asyncio.sleep(0.7)
        assert await client.xlen(STREAM) == 500


async def test_dead_letters_are_trimmed_by_the_same_rule(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        await transport.publish(messages(["x"] * 300, partition=0, of=transport))
        records = await transport.read(Topic.MESSAGES, 0)
        await transport.dead_letter(
            [DeadLetter(r, Reason.REJECTED, "why", attempts=1, failed_at="now") for r in records]
        )
        async with Member(transport, group=DLQ_GROUP, topic=Topic.DEAD_LETTERS) as member:
            claim = await member.claim(0)
            letters = await drain(claim, 300, patience=PATIENCE)
            await asyncio.sleep(0.5)
            assert await client.xlen("msg:dlq") == 300
            await claim.ack(letters[-1].offset)

            async def gone() -> bool:
                return bool(await client.xlen("msg:dlq") <= NODE)

            await until(gone, patience=PATIENCE)


async def test_trimming_does_not_disturb_the_counting_of_lag(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _transport(own_redis, seconds=0, records=0) as transport:
        for _ in range(3):
            worker = ConformanceWorker(transport, "worker", batch=100)
            async with worker.working():
                await transport.publish(messages(["x"] * 400, partition=0, of=transport))
                await until(_read(worker, 400), patience=PATIENCE)

                async def worked_off() -> bool:
                    left = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0].lag
                    return left == 0 and bool(await client.xlen(STREAM) <= NODE)

                await until(worked_off, patience=PATIENCE)
            await transport.publish(messages(["y"] * 5, partition=0, of=transport))
            progress = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
            assert (progress.lag, progress.lost) == (5, 0)
            async with Member(transport) as member:
                claim = await member.claim(0)
                records = await drain(claim, 5, patience=PATIENCE)
                await claim.ack(records[-1].offset)


def test_the_notes_on_what_was_acknowledged_stay_few() -> None:
    retention = Retention(seconds=300, records=10_000)
    for i in range(100_000):
        retention.acked(1, f"{i}-0")
    assert retention.notes < 40


@asynccontextmanager
async def _nodes_of(client: Redis, entries: int) -> AsyncIterator[None]:
    name = "stream-node-max-entries"
    before = (await client.config_get(name))[name]
    await client.config_set(name, entries)
    try:
        yield
    finally:
        await client.config_set(name, before)


def _read(worker: ConformanceWorker, count: int) -> Callable[[], bool]:
    return lambda: len(worker.records) == count
