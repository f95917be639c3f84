"""What others can write into a topic, and what becomes of it when it dies."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from transport.clock import now
from transport.contract import DeadLetter, Reason, Topic
from transport.kafka import KafkaTransport
from transport.message.dead_letters import dead_letter_of
from transport.settings import TransportSettings

_Headers = Sequence[tuple[str, bytes | None]]


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        pytest.param(b"key", b"value", [("a", b"1")], id="plain"),
        pytest.param(None, b"value", [], id="no-key"),
        pytest.param(b"", b"", [], id="empty"),
        pytest.param(b"\xff\xfe", b"\x00\xff", [("b", b"\xff")], id="binary"),
        pytest.param(b"key", None, [], id="no-value"),
        pytest.param(b"key", b"v", [("a", b"1"), ("a", b"2"), ("z", None)], id="headers-twice"),
    ],
)
async def test_a_foreign_record_dies_with_its_bytes_intact(
    kafka_settings: TransportSettings,
    kafka_transport: KafkaTransport,
    key: bytes | None,
    value: bytes | None,
    headers: _Headers,
) -> None:
    servers = kafka_settings.kafka_bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(
            kafka_settings.kafka_topic, value, key=key, headers=headers, partition=2
        )
    (record,) = await kafka_transport.read(Topic.MESSAGES, 2)
    letter = DeadLetter(
        record=record, reason=Reason.UNDECODABLE, error="no JSON", attempts=1, failed_at=now()
    )
    await kafka_transport.dead_letter([letter])
    stands = await _first(kafka_settings)
    assert (stands.key, stands.value) == (key, value)
    assert list(stands.headers)[: len(headers)] == list(headers)
    added = dict(list(stands.headers)[len(headers) :])
    assert added["__connect.errors.topic"] == kafka_settings.kafka_topic.encode()
    assert added["__connect.errors.partition"] == b"2"
    assert added["__connect.errors.offset"] == record.offset.encode()
    assert added["__connect.errors.exception.message"] == b"no JSON"
    assert added["__connect.errors.exception.class.name"] == b"undecodable"
    (read,) = await kafka_transport.read(Topic.DEAD_LETTERS, 0)
    back = dead_letter_of(read)
    assert (back.reason, back.record.topic) == (Reason.UNDECODABLE, Topic.MESSAGES)


async def _first(settings: TransportSettings) -> ConsumerRecord:
    async with AIOKafkaConsumer(
        settings.kafka_dlq_topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
    ) as consumer:
        return await consumer.getone()
