"""Records that a topic does not take, because somebody has altered its settings."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.eventually import eventually
from tests.support.kafka import alter_topic
from tests.support.kafka_internals import lose_answer, producer_of
from transport.conformance.envelopes import contents, message
from transport.contract import Appended, DeadLetter, Reason, Record, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.administration.topics import topic_specs
from transport.message.dead_letters import HEADER_CUT
from transport.settings import TransportSettings


async def _alter(settings: TransportSettings, topic: Topic, **changes: str) -> None:
    spec = topic_specs(settings)[topic]
    changed = {name.replace("_", "."): value for name, value in changes.items()}
    await alter_topic(settings.kafka_bootstrap_servers, spec.name, {**spec.config, **changed})


async def _letter_without_key(transport: KafkaTransport, settings: TransportSettings) -> DeadLetter:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as stranger:
        await stranger.send_and_wait(settings.kafka_topic, b"no key", partition=0)
    (record,) = await transport.read(Topic.MESSAGES, 0)
    return DeadLetter(record, Reason.REJECTED, "no", 1, "2026-11-30T00:00:00Z")


async def test_a_letter_without_a_key_that_compaction_forbids_hurts_no_other_topic(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """The producer stays: in its place, batches of all topics and partitions would fail too."""
    letter = await _letter_without_key(kafka_transport, kafka_settings)
    await kafka_transport.dead_letter([letter])
    await _alter(kafka_settings, Topic.DEAD_LETTERS, cleanup_policy="compact")
    producer, refusals = producer_of(kafka_transport), list[str]()

    async def is_taken() -> bool:
        try:
            await kafka_transport.dead_letter([letter])
        except TransportUnavailable as error:
            refusals.append(str(error))
            return False
        return True

    async def is_refused() -> bool:
        return not await is_taken()

    await eventually(is_refused)
    assert kafka_settings.kafka_dlq_topic in refusals[-1]
    assert "set its cleanup.policy to delete" in refusals[-1]
    (outcome,) = await kafka_transport.publish([message("a", partition=0, of=kafka_transport)])
    assert isinstance(outcome, Appended)
    await _alter(kafka_settings, Topic.DEAD_LETTERS)
    await eventually(is_taken)
    assert producer_of(kafka_transport) is producer


async def test_a_letter_that_may_have_been_appended_before_it_is_refused_is_in_the_log(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker looks at the key first: it does not say that it has the batch already."""
    letter = await _letter_without_key(kafka_transport, kafka_settings)
    producer = producer_of(kafka_transport)
    assert producer is not None

    async def is_altered() -> bool:
        return bool(await kafka_transport.alterations())

    async def compact() -> None:
        await _alter(kafka_settings, Topic.DEAD_LETTERS, cleanup_policy="compact")
        await eventually(is_altered)

    lose_answer(producer, monkeypatch, compact)
    with pytest.raises(TransportUnavailable, match="the records may stand in the log"):
        await kafka_transport.dead_letter([letter])
    assert len(await kafka_transport.read(Topic.DEAD_LETTERS, 0)) == 1


async def test_messages_whose_time_a_topic_refuses_are_not_sent_and_told(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """As is each record that is a millisecond old, unless the broker writes the time itself."""
    producer, taken = producer_of(kafka_transport), list[str]()
    told: set[str] = set()

    async def is_taken() -> bool:
        text = f"{len(taken)}"
        (outcome,) = await kafka_transport.publish([message(text, partition=0, of=kafka_transport)])
        if isinstance(outcome, Appended):
            taken.append(text)
            return True
        assert type(outcome) is TransportUnavailable, "surely not appended"
        told.add(str(outcome))
        return False

    async def is_refused() -> bool:
        return not await is_taken()

    assert await is_taken()
    refusing = {"message_timestamp_type": "CreateTime", "message_timestamp_before_max_ms": "0"}
    await _alter(kafka_settings, Topic.MESSAGES, **refusing)
    await eventually(is_refused)
    await _alter(kafka_settings, Topic.MESSAGES)
    await eventually(is_taken)
    assert all("set message.timestamp.type to LogAppendTime" in line for line in told)
    assert producer_of(kafka_transport) is producer
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == taken


async def test_a_letter_that_a_topic_stores_uncompressed_is_cut(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """Else its partition would wait for ever: compressed, it is small, and refused all the same."""
    await _alter(kafka_settings, Topic.DEAD_LETTERS, compression_type="uncompressed")
    record = Record(Topic.MESSAGES, 0, "5", "key", b"x" * 10_000_000, {}, 0.0)
    letter = DeadLetter(record, Reason.REJECTED, "no", 1, "2026-11-30T00:00:00Z")

    async def is_cut() -> bool:  # the broker may act on the setting a moment later
        await kafka_transport.dead_letter([letter])
        *_, found = await kafka_transport.read(Topic.DEAD_LETTERS, 0)
        return HEADER_CUT in found.headers and len(found.body) > 4_000_000

    await eventually(is_cut)
