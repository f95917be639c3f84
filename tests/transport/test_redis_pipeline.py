"""Trips that several callers share: each gets its own replies, errors and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ResponseError

from compose.local.valkey import ValkeyServer
from tests.support.fault_proxy import FaultProxy
from tests.transport.redis_backend import short_settings
from transport.errors import TransportUnavailable
from transport.redis.client.connections import RedisConnections
from transport.redis.client.pipeline import Pipeline


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
