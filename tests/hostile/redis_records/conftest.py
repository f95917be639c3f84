"""Servers and services for the tests of hostile records, and of failovers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from otel.metrics import Metrics
from persistence.database.pool import Pool
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.metrics import PersistenceMetrics
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.persistence.samples import PARTITIONS, message
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.services import empty_redis
from transport.contract import DLQ_GROUP, WORKER_GROUP, Appended, Topic
from transport.message.envelope import Message, seal_message
from transport.redis import RedisTransport
from transport.settings import TransportSettings


@pytest_asyncio.fixture
async def deployment(
    new_redis: Callable[..., Awaitable[ValkeyServer]],
    postgres_server: Any,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Deployment]:
    """Processes of ours on a Redis of the test's own."""
    log = RedisLog(await new_redis(repl_diskless_sync_delay="0"))
    async with Deployment.on(log, postgres_server, database_url, tmp_path / "services") as made:
        yield made


_GROUPS = ((Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP))


class Site:
    """A log, a worker and an indexer on it, a plain client to do harm with, and what came of it."""

    def __init__(self, transport: RedisTransport, client: Redis, pool: Pool) -> None:
        self.transport = transport
        self.client = client
        self.pool = pool
        self.metrics = Metrics()
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run a worker and an indexer while the block runs."""
        stop = asyncio.Event()
        consumers = [
            kind(
                transport=self.transport,
                pool=self.pool,
                settings=PersistenceSettings(stream_poll_interval_ms=500, stream_batch_size=100),
                metrics=self.metrics,
                member=member,
            )
            for kind, member in ((Worker, "w1"), (DeadLetterIndexer, "i1"))
        ]
        tasks = [asyncio.create_task(consumer.run(stop)) for consumer in consumers]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait(tasks)

    async def good(self, *partitions: int) -> list[str]:
        """Append a good message to each of these partitions; return their ids."""
        events = [self._message(partition) for partition in partitions]
        sealed = [
            msgspec.structs.replace(
                seal_message(event, partitions=PARTITIONS, traceparent=None), partition=partition
            )
            for event, partition in zip(events, partitions, strict=True)
        ]
        for outcome in await self.transport.publish(sealed, remember=False):
            assert isinstance(outcome, Appended), outcome
        return [event.message_id for event in events]

    def _message(self, partition: int) -> Message:
        number = next(self._numbers)
        return message(f"good{number}", f"good-conversation-{partition}")

    async def add(self, partition: int, *fields: bytes | str, at: str = "*") -> str:
        """Append an entry as another program would; return its id."""
        told = await self.client.execute_command("XADD", f"msg:stream:{partition}", at, *fields)
        return bytes(told).decode()

    async def rows(self) -> set[str]:
        """Return the ids of all messages that are rows."""
        return {str(row["id"]) for row in await self.pool.fetch("SELECT id FROM messages")}

    async def letters(self) -> dict[str, Any]:
        """Return the indexed dead letters, by where their records stood."""
        found = await self.pool.fetch("SELECT * FROM dead_letters ORDER BY id")
        return {f"{row['source_partition']}/{row['source_offset']}": row for row in found}

    async def dead_letter_fields(self) -> list[bytes]:
        """Return the fields of the one dead letter there is; a dict would have each once."""
        self.client.response_callbacks.pop("XRANGE", None)
        ((_, stands),) = await self.client.execute_command("XRANGE", "msg:dlq", "-", "+")
        return list(stands)

    async def settled(self) -> None:
        """Return once everything in the log is acknowledged, dead letters too."""

        async def nothing_left() -> bool:
            left = [
                (topic.value, part.partition, part.lag)
                for topic, group in (
                    (Topic.MESSAGES, WORKER_GROUP),
                    (Topic.DEAD_LETTERS, DLQ_GROUP),
                )
                for part in await self.transport.progress(topic, group=group)
                if part.lag != 0
            ]
            assert not left, f"not acknowledged: {left}"
            return True

        await eventually(nothing_left)

    def counted(self) -> dict[str, int]:
        """Return the number of records that the worker finished with, by outcome."""
        status = self.metrics.of(PersistenceMetrics).processed.labels
        return {
            name: int(value_of(status(name)))
            for name in ("persisted", "duplicate", "dead_lettered")
        }

    async def lost(self) -> int:
        """Return the number of records that are counted as lost."""
        progress = await self.transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return sum(part.lost for part in progress)


@pytest_asyncio.fixture
async def unread_site(redis_server: Any, database_pool: Pool) -> AsyncIterator[Site]:
    """A site on an empty log, without a worker."""
    await empty_redis(redis_server)
    settings = TransportSettings(
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        stream_partitions=PARTITIONS,
    )
    client = Redis(
        host=redis_server.host, port=redis_server.port, db=settings.redis_stream_db, protocol=2
    )
    async with RedisTransport.from_settings(settings) as transport, client:
        yield Site(transport, client, database_pool)


@pytest_asyncio.fixture
async def site(unread_site: Site) -> AsyncIterator[Site]:
    """A site on an empty log; its worker and its indexer run until the test ends."""
    async with unread_site.working():
        yield unread_site
