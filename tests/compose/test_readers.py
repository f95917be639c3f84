"""The readers of a process begin and end together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from compose.process.context import ProcessContext
from compose.process.logs.orphaned_logs import OrphanedLogDrainer
from compose.process.readers import Readers
from compose.process.tasks import Tasks
from compose.process.wiring import Consumers
from compose.settings import load
from tests.support.eventually import eventually
from transport.contract import Transport
from transport.memory import MemoryTransport
from transport.redis import RedisTransport


@pytest.fixture
async def redis(redis_settings) -> AsyncIterator[Transport]:
    async with RedisTransport(redis_settings) as log:
        yield log


@pytest.fixture
async def memory(redis_settings) -> AsyncIterator[Transport]:
    async with MemoryTransport.from_settings(redis_settings) as log:
        yield log


async def test_they_give_all_partitions_back(
    database_url, database_pool, redis_settings, metrics, redis, memory
) -> None:
    settings = load(
        {
            "DATABASE_URL": database_url,
            "REDIS_HOST": redis_settings.redis_host,
            "REDIS_PORT": redis_settings.redis_port,
        }
    )
    context, tasks = ProcessContext(settings, database_pool, metrics, "w1"), Tasks()
    consumers = Consumers(
        worker=context.worker(redis),
        followers=[context.follower(memory)],
        drainer=OrphanedLogDrainer(context, ("redis", "memory")),
        indexers=[],
    )
    readers = Readers(consumers, tasks)
    readers.start()
    try:
        await eventually(lambda: len(consumers.worker.status().partitions) == redis.partitions)
        (follower,) = consumers.followers
        await eventually(lambda: len(follower.status().epochs or ()) == memory.partitions)
        async with asyncio.timeout(30):
            await readers.end(within=240)
    finally:
        await tasks.cancel_all()
    owners = "SELECT count(*) FROM fences WHERE partition >= 0 AND owner <> ''"
    assert await database_pool.fetchval(owners) == 0
