"""Header names that are not UTF-8, which the protocol forbids and no broker checks."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from migration_guide.backfill.copies import of_record
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.kafka_internals import reader_of
from tests.support.record_batches import CODECS, Raw, RawProducer, encode_batch
from transport.contract import Topic
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_NAME = b"\xff\xfe name"
_HEADERS = ((b"first", b"1"), (_NAME, b"\x00\xff"), (b"twice", None), (b"twice", b"2"))
_ODD = Raw(key=b"\xfe key", value=b"\xff no JSON", headers=_HEADERS)


async def test_it_is_a_dead_letter_to_the_byte_and_its_neighbours_are_rows(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """In every compression, and with good records before and behind it in the same batch."""
    topic = kafka_settings.kafka_topic
    batches = []
    for number, compression in enumerate(CODECS):
        records = [good(compression, 1), _ODD, good(compression, 2)]
        batch = encode_batch(records, compression=compression)
        batches.append((number % 2, batch))
    for partition, batch in batches:
        await producer.append(topic, partition, batch)
    await site.settled()
    assert await site.rows() == ["good 1", "good 2"] * len(CODECS)
    letters = await site.letters()
    assert [letter["reason"] for letter in letters] == ["undecodable"] * len(CODECS)
    for letter in letters:
        assert bytes(letter["record_key"]) == _ODD.key
        assert bytes(letter["body"]) == _ODD.value
        assert _NAME in [bytes(name) for name in letter["header_names"]]
    stored = await producer.stored(kafka_settings.kafka_dlq_topic, 0)
    assert stored.count(_NAME) == len(CODECS), "the dead-letter topic has the name as it was"


async def test_a_message_with_such_a_header_is_a_row(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """Its body has all that is stored; a header that is not read takes nothing from it."""
    one = good("conversation", 1)._replace(headers=_HEADERS)
    await producer.append(kafka_settings.kafka_topic, 0, encode_batch([one]))
    await site.settled()
    assert (await site.rows(), await site.letters()) == (["good 1"], [])


async def test_whoever_reads_without_a_group_gets_it_and_its_neighbours(
    kafka_transport: KafkaTransport, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """The console, parity, backfill and gates read so; progress looks at single records."""
    topic = kafka_settings.kafka_topic
    at = TopicPartition(topic, 0)
    await producer.append(topic, 0, encode_batch([good("c", 1), _ODD, good("c", 2)]))
    async with asyncio.timeout(10):
        records = await kafka_transport.read(Topic.MESSAGES, 0)
        first = await reader_of(kafka_transport).first_of_each({at: 1}, {at: 3})
        progress = await kafka_transport.progress(Topic.MESSAGES, group="nobody")
    assert [record.offset for record in records] == ["0", "1", "2"]
    assert records[1].headers[_NAME.decode("utf-8", "surrogateescape")] == b"\x00\xff"
    assert first[at].offset == 1
    assert (progress[0].lag, progress[1].lag) == (3, 0)


async def test_it_is_not_copied_into_another_log(
    kafka_transport: KafkaTransport, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """An envelope's headers are text: a backfill counts the record as refused and goes on."""
    one = good("c", 1)._replace(headers=((_NAME, b"1"),))
    await producer.append(kafka_settings.kafka_topic, 0, encode_batch([one]))
    (record,) = await kafka_transport.read(Topic.MESSAGES, 0)
    with pytest.raises(UnicodeError):
        of_record(record, kafka_transport, kafka_transport)
