"""The log's address leads to another cluster for a while, and back: positions of two logs meet.

Two topics of one Kafka stand for two clusters: a log is told by its topic's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition
from asyncpg import Pool

from otel.metrics import Metrics
from persistence.settings import PersistenceSettings
from persistence.worker.position_metrics import PositionMetrics
from persistence.worker.worker import Worker
from tests.persistence.samples import message
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.kafka import KafkaTransport
from transport.message.envelope import seal_message
from transport.message.partitioner import partition_for
from transport.settings import TransportSettings


async def _append(log: KafkaTransport, names: list[str]) -> None:
    for name in names:
        sealed = seal_message(
            message(name, "conversation"), partitions=log.partitions, traceparent=None
        )
        (outcome,) = await log.publish([sealed])
        assert isinstance(outcome, Appended)


async def _rows(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    return [row["client_message_id"] for row in rows]


async def _persist(log: KafkaTransport, pool: Pool, names: list[str]) -> Metrics:
    """Append messages, and have a worker persist them; return its metrics."""
    await _append(log, names)
    stop, metrics = asyncio.Event(), Metrics()
    worker = Worker(
        transport=log, pool=pool, settings=PersistenceSettings(), metrics=metrics, member="worker"
    )

    async def done() -> bool:
        assert not worker.status().paused
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return all(part.lag == 0 for part in progress)

    running = asyncio.create_task(worker.run(stop))
    try:
        await eventually(done)
    finally:
        stop.set()
        await running
    return metrics


def _named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.fixture
async def spare(kafka_settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    """Another log with the name of the first: an operator changed the address."""
    topics = {
        "kafka_topic": f"{kafka_settings.kafka_topic}.spare",
        "kafka_dlq_topic": f"{kafka_settings.kafka_dlq_topic}.spare",
    }
    async with KafkaTransport(kafka_settings.model_copy(update=topics)) as log:
        yield log


async def test_a_log_that_is_read_again_after_another_holds_up_no_partition(
    kafka_transport: KafkaTransport,
    spare: KafkaTransport,
    kafka_settings: TransportSettings,
    database_pool: Pool,
) -> None:
    """The first log is longer, and has no records any more at the place that the spare reached."""
    await _persist(kafka_transport, database_pool, _named("first", 20))
    await _persist(spare, database_pool, _named("spare", 3))
    await _retain_from(kafka_settings, kafka_transport, 10)
    metrics = await _persist(kafka_transport, database_pool, _named("back", 5))
    assert await _rows(database_pool) == [
        *_named("first", 20), *_named("spare", 3), *_named("back", 5)
    ]  # fmt: skip
    assert value_of(metrics.of(PositionMetrics).rows_lost.labels("kafka")) == 0


async def test_records_of_another_log_are_read_wherever_its_group_was_set(
    kafka_transport: KafkaTransport,
    spare: KafkaTransport,
    kafka_settings: TransportSettings,
    database_pool: Pool,
) -> None:
    """A copy of the log had unread records when somebody set its group to the end."""
    await _persist(kafka_transport, database_pool, _named("first", 20))
    await _append(spare, _named("unread", 3))
    await _set_group_to_end(kafka_settings, spare)
    await _persist(spare, database_pool, _named("spare", 3))
    assert await _rows(database_pool) == [
        *_named("first", 20), *_named("unread", 3), *_named("spare", 3)
    ]  # fmt: skip


async def _retain_from(settings: TransportSettings, log: KafkaTransport, offset: int) -> None:
    at = TopicPartition(log.location.messages, partition_for("conversation", log.partitions))
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({at: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def _set_group_to_end(settings: TransportSettings, log: KafkaTransport) -> None:
    """Do as ``kafka-consumer-groups --reset-offsets --to-latest`` does."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=f"{settings.kafka_group_prefix or ''}{WORKER_GROUP}",
        enable_auto_commit=False,
    )
    async with consumer:
        where = [TopicPartition(log.location.messages, p) for p in range(log.partitions)]
        consumer.assign(where)
        await consumer.commit(await consumer.end_offsets(where))
