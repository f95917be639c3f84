"""A server at its maxmemory: workers drain it, whenever they start, and it takes appends again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler
from transport.conformance.envelopes import message
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport

KEPT = 4
"""Seconds, in place of a minute, for which a full server keeps what is settled."""
ROOM = 2 << 20
BODY = "x" * 10_000


@asynccontextmanager
async def _full(client: Redis, log: RedisTransport) -> AsyncIterator[int]:
    """Let the log fill what memory there is; yield how many records it then has."""
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used + ROOM)
    try:
        count, accepted = 0, True
        while accepted:
            batch = [message(BODY, partition=n % 4, of=log) for n in range(20)]
            outcomes = await log.publish(batch)
            count += sum(isinstance(it, Appended) for it in outcomes)
            accepted = all(isinstance(it, Appended) for it in outcomes)
        # It stays full, whatever goes of what is no record.
        await client.config_set("maxmemory", used + ROOM // 2)
        yield count
    finally:
        await client.config_set("maxmemory", 0)


@pytest.fixture(params=["loaded", "flushed"])
def library(request: pytest.FixtureRequest) -> str:
    """Whether the server has our functions; one that is full loads none."""
    return str(request.param)


async def test_workers_that_start_on_a_full_server_drain_it_and_it_takes_appends_again(
    own_redis: ValkeyServer,
    near: RedisTransport,
    client: Redis,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long before the retention of what they settle is over, and not at once."""
    monkeypatch.setattr("transport.redis.delivery.published_positions._FULL_SECONDS", KEPT)
    began = time.monotonic()
    async with _full(client, near) as count:
        assert count > 50
        if library == "flushed":
            await client.execute_command("FUNCTION", "FLUSH")
        async with RedisTransport.from_settings(short_settings(own_redis)) as another:
            worker = Settler(another)
            async with worker.working():
                await eventually(lambda: len(worker.records) == count)

                async def drained() -> bool:
                    progress = await another.progress(Topic.MESSAGES, group=WORKER_GROUP)
                    return sum(it.lag or 0 for it in progress) == 0

                async def appends() -> bool:
                    (outcome,) = await another.publish([message("x", partition=0, of=another)])
                    return isinstance(outcome, Appended)

                await eventually(drained)
                await eventually(appends)
                # What such a server keeps of ours takes none of the room that was made.
                assert (await client.info("memory"))["number_of_cached_scripts"] <= 1
                assert time.monotonic() - began > KEPT - 0.5, "PostgreSQL may still lose their rows"
        assert await another_identity(own_redis) == await near.identity()


async def another_identity(server: ValkeyServer) -> str:
    async with RedisTransport.from_settings(short_settings(server)) as log:
        return await log.identity()


async def test_an_append_to_a_full_server_without_the_library_is_refused_as_full(
    near: RedisTransport, client: Redis
) -> None:
    await client.execute_command("FUNCTION", "FLUSH")
    await client.config_set("maxmemory", 1)
    try:
        (outcome,) = await near.publish([message("x", partition=0, of=near)])
    finally:
        await client.config_set("maxmemory", 0)
    assert isinstance(outcome, TransportUnavailable)
    assert isinstance(outcome.__cause__, OutOfMemoryError)
    assert "let workers drain the log" in str(outcome)


async def test_a_new_log_on_a_full_server_is_refused_as_full(
    own_redis: ValkeyServer, client: Redis
) -> None:
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(TransportUnavailable, match="maxmemory"):
            async with RedisTransport.from_settings(short_settings(own_redis)):
                pass
    finally:
        await client.config_set("maxmemory", 0)
