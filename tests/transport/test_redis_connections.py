"""The pool and its lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler
from transport.conformance.envelopes import message
from transport.contract import DLQ_GROUP, DeadLetter, Reason, Topic
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.client.connections import RedisConnections


@asynccontextmanager
async def _pool(server: ValkeyServer, **settings: object) -> AsyncIterator[RedisConnections]:
    connections = RedisConnections(short_settings(server, **settings))
    yield connections
    await connections.close()


async def test_replies_come_in_the_order_of_their_commands(own_redis: ValkeyServer) -> None:
    async with _pool(own_redis) as pool:
        replies = await pool.exchange([("ECHO", str(i)) for i in range(1000)])
        assert replies == [str(i).encode() for i in range(1000)]


async def test_an_error_takes_its_own_place_and_no_other(own_redis: ValkeyServer) -> None:
    async with _pool(own_redis) as pool:
        first, refused, last = await pool.exchange([("ECHO", "a"), ("NONSENSE",), ("ECHO", "b")])
        assert (first, last) == (b"a", b"b")
        assert isinstance(refused, ResponseError)


async def test_values_of_any_bytes_and_size_pass(own_redis: ValkeyServer) -> None:
    value = bytes(range(256)) * 40_000  # 10 MB
    async with _pool(own_redis) as pool:
        assert await pool.exchange([("SET", "k", value), ("GET", "k")]) == [b"OK", value]


async def test_whoever_finds_all_connections_in_use_waits_for_one(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _pool(own_redis, redis_pool_size=4) as pool:
        before = (await client.info("stats"))["total_connections_received"]
        answers = await asyncio.gather(*(pool.call("ECHO", str(i)) for i in range(200)))
        assert answers == [str(i).encode() for i in range(200)]
        assert (await client.info("stats"))["total_connections_received"] - before <= 4


async def test_a_connection_in_use_at_the_close_is_closed_when_it_comes_back(
    own_redis: ValkeyServer, client: Redis
) -> None:
    async with _pool(own_redis) as pool:
        async with pool.lend() as line:
            await pool.close()
            assert await line.exchange([("ECHO", "still")]) == [b"still"]
        assert not line.is_open


async def test_a_reply_that_is_too_late_does_not_answer_the_next_command(
    own_redis: ValkeyServer, proxy: FaultProxy
) -> None:
    settings = {"redis_host": proxy.host, "redis_port": proxy.port, "redis_timeout_ms": 100}
    async with _pool(own_redis, **settings) as pool:
        await pool.call("ECHO", "warm")
        proxy.delay(0.3)
        with pytest.raises(TransportUnavailable, match="in time"):
            await pool.call("ECHO", "late")
        proxy.heal()
        assert await pool.call("ECHO", "next") == b"next"


async def test_a_cancelled_trip_does_not_answer_the_next_command(own_redis: ValkeyServer) -> None:
    async with _pool(own_redis, redis_pool_size=4) as pool:
        for _ in range(8):
            trip = asyncio.create_task(pool.call("ECHO", "cancelled"))
            await asyncio.sleep(0)
            trip.cancel()
            await asyncio.wait([trip])
            assert await pool.call("ECHO", "next") == b"next"


async def test_connecting_is_given_up_in_time(own_redis: ValkeyServer, proxy: FaultProxy) -> None:
    """The other side accepts and says nothing, as behind a firewall that drops."""
    settings = {"redis_host": proxy.host, "redis_port": proxy.port, "redis_timeout_ms": 200}
    proxy.black_hole()
    async with _pool(own_redis, **settings) as pool:
        with pytest.raises(TransportUnavailable):
            await pool.call("PING")


async def test_a_user_without_a_password_is_not_the_default_user(
    own_redis: ValkeyServer, client: Redis
) -> None:
    await client.execute_command("ACL", "SETUSER", "open", "on", "nopass", "~*", "+@all")
    async with _pool(own_redis, redis_username="open") as pool:
        assert await pool.call("ACL", "WHOAMI") == b"open"
    async with _pool(own_redis, redis_username="nobody") as pool:
        with pytest.raises(TransportUnavailable, match="check REDIS_USERNAME and REDIS_PASSWORD"):
            await pool.call("ACL", "WHOAMI")


async def test_a_server_restart_is_noticed_before_the_next_command(
    own_redis: ValkeyServer,
) -> None:
    async with _pool(own_redis) as pool:
        assert await pool.call("ECHO", "before") == b"before"
        await own_redis.restart()
        assert await pool.call("ECHO", "after") == b"after"


async def test_what_is_no_redis_is_told_from_one() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connections = RedisConnections(
            short_settings(None, redis_host="127.0.0.1", redis_port=port)
        )
        with pytest.raises(TransportUnavailable) as told:
            await connections.call("PING")
        assert isinstance(told.value.__cause__, (InvalidResponse, RedisConnectionError))
        await connections.close()


async def test_the_smallest_pool_serves_many_partitions_and_two_groups(
    own_redis: ValkeyServer,
) -> None:
    settings = short_settings(own_redis, redis_pool_size=4, stream_partitions=32)
    async with RedisTransport.from_settings(settings) as transport:
        worker = Settler(transport)
        letters = Settler(transport, group=DLQ_GROUP, topic=Topic.DEAD_LETTERS)
        async with worker.working(), letters.working():
            for _ in range(5):
                batch = [message("x", partition=p, of=transport) for p in range(32)]
                await transport.publish(batch)
            await eventually(lambda: len(worker.records) >= 160)
            letter = DeadLetter(worker.records[0], Reason.REJECTED, "why", 1, "now")
            await transport.dead_letter([letter])
            await eventually(lambda: len(letters.records) == 1)
