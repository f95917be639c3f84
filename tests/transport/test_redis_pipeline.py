"""Trips that several callers share: each gets its own replies, errors and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from compose.local.valkey import ValkeyServer
from tests.support.fault_proxy import FaultProxy
from tests.transport.redis_backend import short_settings
from transport.conformance.member import drain, message
from transport.contract import WORKER_GROUP, Claim, Consumer, Topic
from transport.errors import PartitionLost, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.client.connections import RedisConnections
from transport.redis.client.pipeline import Pipeline
from transport.settings import TransportSettings

LARGE = 1 << 19


@pytest.fixture
async def pool(own_redis: ValkeyServer) -> AsyncIterator[RedisConnections]:
    connections = RedisConnections(short_settings(own_redis))
    yield connections
    await connections.close()


async def test_calls_of_one_moment_are_one_trip(pool: RedisConnections) -> None:
    pipeline = Pipeline(pool)
    answers = await asyncio.gather(
        *(pipeline.exchange([("CLIENT", "ID"), ("ECHO", f"{n}")]) for n in range(50))
    )
    assert [echo for _, echo in answers] == [f"{n}".encode() for n in range(50)]
    assert len({connection for connection, _ in answers}) == 1


async def test_an_error_is_its_own_callers(pool: RedisConnections) -> None:
    pipeline = Pipeline(pool)
    (first,), (refused,), (last,) = await asyncio.gather(
        *(pipeline.exchange([command]) for command in (("ECHO", "a"), ("NO",), ("ECHO", "b")))
    )
    assert (first, last) == (b"a", b"b")
    assert isinstance(refused, ResponseError)


async def test_who_is_cancelled_cancels_no_other(pool: RedisConnections) -> None:
    pipeline = Pipeline(pool)
    one, other = (asyncio.create_task(pipeline.exchange([("ECHO", x)])) for x in "ab")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    one.cancel()
    assert await other == [b"b"]
    assert await pipeline.exchange([("ECHO", "c")]) == [b"c"]


async def test_a_trip_that_nobody_waits_for_any_more_is_given_up(
    own_redis: ValkeyServer, proxy: FaultProxy
) -> None:
    pool = RedisConnections(short_settings(own_redis, redis_host=proxy.host, redis_port=proxy.port))
    pipeline = Pipeline(pool)
    await pipeline.exchange([("ECHO", "warm")])
    proxy.delay(0.5)
    calls = [asyncio.create_task(pipeline.exchange([("ECHO", x)])) for x in "ab"]
    await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    proxy.heal()
    assert await pipeline.exchange([("ECHO", "c")]) == [b"c"]
    await pool.close()


async def test_each_caller_hears_that_the_server_is_gone(
    own_redis: ValkeyServer, pool: RedisConnections
) -> None:
    pipeline = Pipeline(pool)
    await own_redis.kill()
    calls = [pipeline.exchange([("ECHO", f"{n}")]) for n in range(3)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, TransportUnavailable) for outcome in outcomes)


async def _claims(consumer: Consumer, count: int) -> list[Claim]:
    claims = consumer.claims()
    return sorted([await anext(claims) for _ in range(count)], key=lambda claim: claim.partition)


async def _next(claims: list[Claim], wait: float = 5.0) -> list[list[bytes]]:
    found = await asyncio.gather(*(c.next(max_records=100, max_wait=wait) for c in claims))
    return [[record.body for record in records] for records in found]


async def test_a_claim_that_is_lost_fails_alone(
    near: RedisTransport, settings: TransportSettings, client: Redis
) -> None:
    async with near.consume(Topic.MESSAGES, group=WORKER_GROUP, member="m") as consumer:
        claims = await _claims(consumer, near.partitions)
        await near.publish([message(f"{p}", partition=p, of=near) for p in range(4)])
        offsets = [
            records[-1].offset
            for records in await asyncio.gather(
                *(claim.next(max_records=100, max_wait=5) for claim in claims)
            )
        ]
        await client.hincrby(claims[1].lease, "epoch", 1)  # type: ignore[attr-defined]
        acked = await asyncio.gather(
            *(claim.ack(offset) for claim, offset in zip(claims, offsets, strict=True)),
            return_exceptions=True,
        )
        assert isinstance(acked.pop(1), PartitionLost)
        assert acked == [None] * 3
        assert [p.lag for p in await near.progress(Topic.MESSAGES, group=WORKER_GROUP)] == [
            0, 1, 0, 0,
        ]  # fmt: skip


async def test_one_partitions_large_records_keep_no_other_from_its_own(
    near: RedisTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the bytes that one trip may bring: each partition is then read alone."""
    monkeypatch.setattr("transport.redis.delivery.consumer._REPLY_BYTES", 2 * LARGE)
    async with near.consume(Topic.MESSAGES, group=WORKER_GROUP, member="m") as consumer:
        claims = await _claims(consumer, near.partitions)
        assert await _next(claims, 0.0) == [[]] * 4, "from now on they are read together"
        small = [message(f"{p}", partition=p, of=near) for p in range(4)]
        large = [
            msgspec.structs.replace(message(f"large{n}", partition=1, of=near), body=bytes(LARGE))
            for n in range(4)
        ]
        await near.publish([*small, *large])
        found = await _next(claims)
        assert [len(bodies) for bodies in found] == [1, 5, 1, 1]
        assert [len(body) for body in found[1][1:]] == [LARGE] * 4


async def test_what_is_more_than_the_server_may_reply_is_read_in_parts(
    near: RedisTransport, client: Redis
) -> None:
    """It closes the connection instead, each time."""
    name = "client-output-buffer-limit"
    before = (await client.config_get(name))[name]
    await client.config_set(name, f"normal {2 * LARGE} 0 0")
    try:
        async with near.consume(Topic.MESSAGES, group=WORKER_GROUP, member="m") as consumer:
            claims = await _claims(consumer, near.partitions)
            assert await _next(claims, 0.0) == [[]] * 4, "from now on they are read together"
            large = [
                msgspec.structs.replace(
                    message(f"{n}", partition=n % 4, of=near), body=bytes(LARGE)
                )
                for n in range(12)
            ]
            await near.publish(large)
            for claim in claims:
                found = await drain(claim, 3, patience=10.0)
                assert [len(record.body) for record in found] == [LARGE] * 3
    finally:
        await client.config_set(name, before)
