"""A worker and an indexer of dead letters on a Kafka, and the rows and letters they made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from otel.metrics import Metrics
from persistence.database.pool import Pool
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.support.eventually import eventually
from tests.support.record_batches import Raw
from transport.contract import DLQ_GROUP, WORKER_GROUP, Topic
from transport.kafka import KafkaTransport

__all__ = ["KafkaConsumers", "good"]


def good(conversation: str, number: int, *, content: str = "") -> Raw:
    """Return a minimal message that becomes a row, as another producer may write it."""
    body = {
        "type": "message", "v": 1, "conversationId": conversation, "senderId": "stranger",
        "clientMessageId": str(number), "content": content or f"good {number}",
        "contentType": "text",
    }  # fmt: skip
    return Raw(key=conversation.encode(), value=json.dumps(body).encode())


class KafkaConsumers:
    """A running worker and indexer, with their database."""

    def __init__(
        self, transport: KafkaTransport, pool: Pool, metrics: Metrics, worker: Worker
    ) -> None:
        self.transport = transport
        self.pool = pool
        self.metrics = metrics
        self.worker = worker

    @classmethod
    @asynccontextmanager
    async def running(cls, transport: KafkaTransport, pool: Pool) -> AsyncIterator[Self]:
        """Run a worker and an indexer until the block ends."""
        stop, metrics = asyncio.Event(), Metrics()
        parts: dict[str, Any] = {
            "transport": transport,
            "pool": pool,
            "settings": PersistenceSettings(stream_poll_interval_ms=200),
            "metrics": metrics,
            "member": "site",
        }
        worker = Worker(**parts)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run(stop))
            tasks.create_task(DeadLetterIndexer(**parts).run(stop))
            try:
                yield cls(transport, pool, metrics, worker)
            finally:
                stop.set()

    async def rows(self) -> list[str]:
        """Return the contents of all rows, by partition, each in its order."""
        found = await self.pool.fetch("SELECT content FROM messages ORDER BY partition, seq")
        return [row["content"] for row in found]

    async def letters(self) -> Sequence[Any]:
        """Return the dead letters as they are indexed, by place."""
        return await self.pool.fetch(
            "SELECT * FROM dead_letters ORDER BY source_partition, source_offset::bigint"
        )

    async def settled(self) -> None:
        """Wait until both topics are acknowledged, and Kafka can be reached and read."""

        async def quiet() -> bool:
            for topic, group in ((Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)):
                if any(part.lag != 0 for part in await self.transport.progress(topic, group=group)):
                    return False
            await self.transport.ping()
            return True

        await eventually(quiet)
