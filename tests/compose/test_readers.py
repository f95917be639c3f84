"""The order in which the readers of a process begin and end: the standby last, and first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from compose.process.context import ProcessContext
from compose.process.logs.orphaned_logs import OrphanedLogDrainer
from compose.process.readers import Readers
from compose.process.tasks import Tasks
from compose.process.wiring import Consumers
from compose.settings import load
from persistence.standby.takeover_rules import LogRole
from tests.persistence.samples import message
from tests.support.eventually import eventually
from transport.contract import Transport
from transport.memory import MemoryTransport
from transport.message.envelope import seal_message
from transport.redis import RedisTransport

PROCESS = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, owned, started_at, seen_at)
VALUES ('another', 'worker', 'h', 1, '1', 'u', 'u', 'redis', 'memory', '{"memory": {}}', now(),
    now() + interval '9 s')
"""


class Process:
    """The readers of one process: a worker of ``read``, and a standby of ``kept``."""

    def __init__(self, readers: Readers, consumers: Consumers, tasks: Tasks) -> None:
        self.readers = readers
        self.worker = consumers.worker
        (self.standby,) = consumers.standbys
        self.tasks = tasks

    def kept(self) -> dict[int, int]:
        return self.standby.status().epochs or {}


@pytest.fixture
async def redis(redis_settings) -> AsyncIterator[Transport]:
    async with RedisTransport(redis_settings) as log:
        yield log


@pytest.fixture
async def memory(redis_settings) -> AsyncIterator[Transport]:
    async with MemoryTransport.from_settings(redis_settings) as log:
        yield log


@pytest.fixture
async def start(
    database_url, database_pool, redis_settings, metrics, redis, memory
) -> AsyncIterator[Callable[..., Process]]:
    settings = load(
        {
            "DATABASE_URL": database_url,
            "REDIS_HOST": redis_settings.redis_host,
            "REDIS_PORT": redis_settings.redis_port,
        }
    )
    context = ProcessContext(settings, database_pool, metrics, "w1")
    logs = {log.name: log for log in (redis, memory)}
    async with AsyncExitStack() as stack:

        def make(*, read: Transport, kept: Transport, **times: float) -> Process:
            tasks = Tasks()
            consumers = Consumers(
                worker=context.worker(read),
                standbys=[context.standby(kept, role=LogRole.OTHER, logs=logs)],
                drainer=OrphanedLogDrainer(context, logs),
                indexers=[],
            )
            readers = Readers(consumers, tasks, **times)
            readers.start()
            stack.push_async_callback(tasks.cancel_all)
            return Process(readers, consumers, tasks)

        yield make


@asynccontextmanager
async def owned_by_another(pool, log: Transport) -> AsyncIterator[None]:
    """Let another live process own every partition of a log until the block ends."""
    await pool.execute(PROCESS)
    await pool.executemany(
        "INSERT INTO fences (transport, partition, epoch, owner) VALUES ($1, $2, 1, 'another')",
        [(log.name, partition) for partition in range(log.partitions)],
    )
    try:
        yield
    finally:
        await pool.execute("UPDATE fences SET owner = '' WHERE owner = 'another'")
        await pool.execute("DELETE FROM processes WHERE member = 'another'")


async def test_a_standby_takes_partitions_when_the_worker_has_its_own(
    start, redis, memory, database_pool
) -> None:
    async with owned_by_another(database_pool, memory):
        process = start(read=memory, kept=redis, partitions_within=60)
        await process.worker.has_partitions(1.0)  # for which it waits in vain
        assert not process.kept()
    await eventually(lambda: len(process.kept()) == redis.partitions)


async def test_a_worker_without_partitions_does_not_keep_the_standby_from_its_own(
    start, redis, memory, database_pool
) -> None:
    async with owned_by_another(database_pool, memory):
        process = start(read=memory, kept=redis, partitions_within=0.1)
        await eventually(lambda: len(process.kept()) == redis.partitions)
        assert process.worker.status().partitions == []


async def test_the_worker_reads_on_until_others_have_what_the_standby_gave_up(
    start, redis, memory, database_pool
) -> None:
    await database_pool.execute(PROCESS)
    process = start(read=redis, kept=memory, hand_over=60)
    await eventually(lambda: len(process.kept()) == memory.partitions // 2)
    ending = asyncio.create_task(process.readers.end(within=240))
    try:
        await eventually(lambda: not process.kept())
        sealed = seal_message(message("c1"), partitions=redis.partitions, traceparent=None)
        await redis.publish([sealed])
        await eventually(lambda: database_pool.fetchval("SELECT count(*) = 1 FROM messages"))
        assert not ending.done()
    finally:
        ending.cancel()
        await asyncio.wait([ending])


async def test_where_nobody_reads_the_standbys_log_nothing_is_waited_for(
    start, redis, memory
) -> None:
    process = start(read=redis, kept=memory, hand_over=60)
    await eventually(lambda: len(process.kept()) == memory.partitions)
    async with asyncio.timeout(30):
        await process.readers.end(within=240)
    assert process.worker.status().partitions == []
