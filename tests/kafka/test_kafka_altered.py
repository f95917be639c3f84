"""Topics whose settings are altered while a process runs. Kafka tells no client of that."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from compose.process.logs.altered_logs import AlteredLogs
from compose.process.metrics import process_metrics
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka import alter_brokers, alter_topic
from transport.conformance.envelopes import contents, message, messages
from transport.contract import WORKER_GROUP, Record, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.administration.topics import differences, topic_specs
from transport.settings import TransportSettings

_GAUGE = ("stream_log_altered_settings", {"transport": "kafka"})


@pytest_asyncio.fixture
async def admin(kafka_settings: TransportSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Somebody with all rights."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_settings.kafka_bootstrap_servers)
    await client.start()
    yield client
    await client.close()


async def test_altered_topics_are_told_until_they_are_as_before(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    topic = kafka_settings.kafka_topic
    metrics = process_metrics()
    watch = AlteredLogs([kafka_transport], metrics, timeout_seconds=5)
    (probe,) = watch.probes()
    assert (await probe()).status == "up"
    await watch.report()
    assert metrics.registry.get_sample_value(*_GAUGE) == 0
    before = topic_specs(kafka_settings)[Topic.MESSAGES].config
    changed = {"cleanup.policy": "compact", "retention.ms": "60000", "min.insync.replicas": "3"}
    altered = {**before, **changed}  # all, as those that are left out become the server's own
    await alter_topic(kafka_settings.kafka_bootstrap_servers, topic, altered)

    async def is_told() -> bool:
        return (await probe()).status == "degraded"

    await eventually(is_told)
    state = await probe()
    assert not state.required
    await watch.report()
    assert metrics.registry.get_sample_value(*_GAUGE) == 3
    for line in (
        f"topic {topic}: cleanup.policy is compact, wanted delete",
        "retention.ms is 60000, wanted 604800000 (KAFKA_RETENTION_MS)",
        "min.insync.replicas is 3, wanted 1 (KAFKA_MIN_INSYNC_REPLICAS)",
    ):
        assert line in state.detail
    with pytest.raises(TransportUnavailable, match=r"fewer than min\.insync\.replicas=3"):
        await kafka_transport.ping()
    await alter_topic(kafka_settings.kafka_bootstrap_servers, topic, before)

    async def is_well() -> bool:
        return (await probe()).status == "up"

    await eventually(is_well)
    await kafka_transport.ping()
    told = [record.message for record in caplog.records if "opics" in record.message]
    assert [line.partition(":")[0] for line in told] == [
        "Settings of Kafka's topics are not as wanted",
        "Settings of Kafka's topics are as wanted again",
    ]


async def test_partitions_that_somebody_added_are_logged_once(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    admin: AIOKafkaAdminClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They can't be removed again, so each look finds them."""
    await admin.create_partitions({kafka_settings.kafka_topic: NewPartitions(total_count=6)})
    specs, counted = list(topic_specs(kafka_settings).values()), dict[str, int]()

    def told() -> int:
        return sum(line.message.startswith("A topic has more part") for line in caplog.records)

    async def is_told() -> bool:
        with suppress(TransportUnavailable):  # the new ones have no leader at first
            await differences(admin, specs, counted)
        return told() > 0

    await eventually(is_told)
    await differences(admin, specs, counted)
    assert told() == 1


async def test_a_topic_that_is_made_again_is_told_though_the_other_is_altered(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    admin: AIOKafkaAdminClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What fails after it was made hides nothing of what was lost."""
    letters = kafka_settings.kafka_dlq_topic
    altered = {**topic_specs(kafka_settings)[Topic.DEAD_LETTERS].config, "retention.ms": "60000"}
    await alter_topic(kafka_settings.kafka_bootstrap_servers, letters, altered)
    await admin.delete_topics([kafka_settings.kafka_topic])

    async def is_told() -> bool:
        await kafka_transport.publish([message("a", partition=0, of=kafka_transport)])
        return any(record.message.startswith("Topics were missing") for record in caplog.records)

    await eventually(is_told)


async def _abort_a_transaction(servers: str, topic: str) -> None:
    stranger = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=f"{topic}-stranger")
    async with stranger:
        await stranger.begin_transaction()
        await stranger.send_and_wait(topic, b"aborted", partition=0)
        await stranger.abort_transaction()


async def test_records_that_compaction_removed_unread_are_lost_though_it_is_off_again(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    admin: AIOKafkaAdminClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An aborted record of another producer leaves offsets without a record too, and is no loss.

    Somebody deletes records as well, up to one in the middle of a batch: those count once.
    """
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    before = topic_specs(kafka_settings)[Topic.MESSAGES].config
    compacting = {"cleanup.policy": "compact,delete", "segment.ms": "100"}
    published: list[str] = []

    async def publish(*keys: str) -> None:
        """Append messages, those with keys in one batch."""
        texts = [f"{len(published) + n}" for n in range(len(keys) or 1)]
        published.extend(texts)
        envelopes = messages(texts, partition=0, of=kafka_transport)
        if keys:
            envelopes = [replace(it, key=key) for it, key in zip(envelopes, keys, strict=True)]
        await kafka_transport.publish(envelopes)

    async def read() -> list[str]:
        return contents(await kafka_transport.read(Topic.MESSAGES, 0))

    async def is_compacted() -> bool:
        await publish()  # to begin a segment: the last one is never compacted
        return len(await read()) < len(published)

    async def settle(log: KafkaTransport, record: Record) -> None:
        await log.publish_positions(Topic.MESSAGES, {0: record.offset}, group=WORKER_GROUP)

    await publish()
    (first,) = await kafka_transport.read(Topic.MESSAGES, 0)
    await settle(kafka_transport, first)
    await publish("one", "one", "one", "one", "two")  # the last one stays
    for _ in range(5):
        await publish("one")
    await alter_brokers(servers, {"log.cleaner.backoff.ms": "50"})
    try:
        await alter_topic(
            servers, topic, {**before, **compacting, "min.cleanable.dirty.ratio": "0.0001"}
        )
        await eventually(is_compacted, every=0.15)
        await alter_topic(servers, topic, before)
    finally:
        await alter_brokers(servers, {})
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    await _abort_a_transaction(servers, topic)
    await publish()

    async def is_aborted() -> bool:  # Kafka answers before it has written the marker
        return (await read())[-1] == published[-1]

    await eventually(is_aborted)
    left = [text for text in await read() if text != published[0]]
    async with KafkaTransport(kafka_settings) as reader:
        records = await first_records(reader, len(left), after=first.offset)
        assert contents(records) == left
        await settle(reader, records[0])
        await settle(reader, records[-1])
    progress = (await kafka_transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
    assert (progress.lag, progress.lost) == (0, len(published) - 1 - len(left))
    assert "Compaction removed records before they were read" in caplog.text
    assert "lost the end" not in caplog.text, "the record that was read is gone too"
