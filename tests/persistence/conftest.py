"""Persistence fixtures: a writer, a small log, and workers that are stopped when the test ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from otel.metrics import Metrics
from persistence.chain.ends import end_of
from persistence.chain.known_chain import KnownChain
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.metrics import PersistenceMetrics
from persistence.settings import PersistenceSettings
from persistence.store.batch import Fence
from persistence.store.writer import Writer
from persistence.worker.log_follower import LogFollower
from persistence.worker.worker import Worker
from tests.persistence.fences import owned
from tests.persistence.samples import PARTITIONS
from tests.support.metric_values import value_of
from transport.contract import Transport
from transport.memory import MemoryTransport
from transport.redis import RedisTransport
from transport.settings import TransportSettings


@pytest.fixture
def writer(database_pool) -> Writer:
    return Writer(database_pool)


@pytest.fixture
async def fence(writer: Writer) -> Fence:
    return await owned(writer, "redis", 0, 1, "test")


@pytest.fixture
async def transport(transport_settings) -> AsyncIterator[Transport]:
    """An empty log of four partitions."""
    small = {"stream_partitions": PARTITIONS}
    async with RedisTransport(transport_settings.model_copy(update=small)) as opened:
        yield opened


@pytest.fixture
async def other() -> AsyncIterator[Transport]:
    """A second log like the first, in memory."""
    settings = TransportSettings(transport="memory", stream_partitions=PARTITIONS)
    async with MemoryTransport.from_settings(settings) as opened:
        yield opened


class Running:
    """A consumer at work. ``stop()`` drains it, ``kill()`` ends it as a crash would."""

    def __init__(self, consumer: Worker | DeadLetterIndexer, metrics: Metrics) -> None:
        self.consumer = consumer
        self.metrics = metrics
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(consumer.run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        await self.task

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def count(self, status: str) -> int:
        return int(value_of(self.metrics.of(PersistenceMetrics).processed.labels(status)))


@pytest.fixture
async def start(transport, database_pool, database_url) -> AsyncIterator[Callable[..., Running]]:
    """Start a consumer (a Worker unless told otherwise) on the test's log and database."""
    async with AsyncExitStack() as stack:

        def make(
            kind=Worker,
            member="w1",
            *,
            log=None,
            pool=None,
            payloads=None,
            deliveries=None,
            **settings,
        ) -> Running:
            metrics = Metrics()
            given = {"payloads": payloads, "deliveries": deliveries}
            more = {name: value for name, value in given.items() if value}
            consumer = kind(
                transport=log or transport,
                pool=pool or database_pool,
                settings=PersistenceSettings(
                    database_url=database_url,
                    **{"stream_poll_interval_ms": 500, "stream_batch_size": 100, **settings},
                ),
                metrics=metrics,
                member=member,
                **more,
            )
            running = Running(consumer, metrics)
            stack.push_async_callback(running.kill)
            return running

        yield make


_ALIVE = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, owned, started_at)
SELECT member, 'worker', 'h', 1, '1', 'u', 'u', $2, $2, jsonb_build_object($2::text, '{}'::jsonb),
    now()
FROM unnest($1::text[]) AS member
ON CONFLICT (member) DO UPDATE SET seen_at = now()
"""


@pytest.fixture
async def alive(
    transport, database_pool
) -> AsyncIterator[Callable[..., Awaitable[asyncio.Task[None]]]]:
    """Give processes heartbeats until the test ends, so that they share the log's partitions."""
    beating: set[asyncio.Task[None]] = set()

    async def beat(members: tuple[str, ...]) -> None:
        while True:
            await database_pool.execute(_ALIVE, members, transport.name)
            await asyncio.sleep(2.0)  # a heartbeat's interval

    async def begin(*members: str) -> asyncio.Task[None]:
        await database_pool.execute(_ALIVE, members, transport.name)
        task = asyncio.create_task(beat(members))
        beating.add(task)
        return task

    yield begin
    for task in beating:
        task.cancel()
    await asyncio.gather(*beating, return_exceptions=True)


@pytest.fixture
def follow(start, other: Transport) -> Callable[..., Running]:
    """Start a follower of a log: the one in memory, unless told otherwise."""

    def make(log=other, *, member="w1", **settings) -> Running:
        return start(LogFollower, member, log=log, **settings)

    return make


@pytest.fixture
def mirrored(database_pool) -> Callable[..., Awaitable[KnownChain]]:
    """Record that every process writes both logs from now on; the first was read so far."""

    async def record(primary: Transport, shadow: Transport) -> KnownChain:
        chain = KnownChain(database_pool)
        await chain.begin(primary.name)
        ends = {primary.name: await end_of(primary)}
        await chain.update(lambda now: now.marked(ends, primary.name, shadow.name))
        return chain

    return record
