"""Batches whose bytes changed on the broker's disk: one partition is concerned, and is told of."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from compose.local.kafka import KafkaServer
from compose.process.health import worker_probe
from persistence.database.pool import Pool
from tests.support.eventually import eventually
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.kafka_damage import damage_batch
from tests.support.record_batches import RawProducer, encode_batch
from transport.conformance.envelopes import contents
from transport.conformance.reader import ConformanceReader
from transport.contract import WORKER_GROUP, Progress, Record, Topic
from transport.errors import Unreadable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_LENGTH_AT = 8


async def _append(producer: RawProducer, topic: str, partition: int, *numbers: int) -> None:
    """Append each message as a batch of its own."""
    for number in numbers:
        one = good(f"conversation {partition}", number, content=f"{partition}: {number}")
        await producer.append(topic, partition, encode_batch([one]))


def _of(partition: int, *numbers: int) -> list[str]:
    return [f"{partition}: {number}" for number in numbers]


async def _settle(transport: KafkaTransport, *records: Record) -> None:
    positions = {record.partition: record.offset for record in records}
    await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)


async def test_a_damaged_batch_is_returned_as_it_is_and_counts_as_lost_and_stops_nothing_else(
    kafka_server: KafkaServer,
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    producer: RawProducer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = kafka_settings.kafka_topic
    await _append(producer, topic, 0, 1, 2, 3)
    damage_batch(kafka_server, topic, 0, offset=1, at=-2, by=b"\xff")
    records = await kafka_transport.read(Topic.MESSAGES, 0)
    assert [record.offset for record in records] == ["0", "1", "2"], "read at once, by a tool"
    damaged, other = ConformanceReader(kafka_transport, 0), ConformanceReader(kafka_transport, 1)
    with caplog.at_level(logging.WARNING, "transport.kafka"):
        async with damaged.reading(), other.reading(), asyncio.timeout(30):
            sent = 0
            while "passed over" not in caplog.text:
                assert len(damaged.records) <= 1
                sent += 1
                await _append(producer, topic, 1, sent)
                await eventually(lambda: contents(other.records[-1:]) == _of(1, sent))  # noqa: B023
            await eventually(lambda: len(damaged.records) == 3)
    assert sent > 5, "while one partition stood still, the other was read"
    assert damaged.records == records
    assert json.loads(records[1].headers["crossfade.batch"]) == {"records": 1, "damaged": True}
    await _settle(kafka_transport, records[0], other.records[-1])
    assert [it.lost for it in await _progress(kafka_transport)] == [0, 0]
    for _ in range(2):
        await _settle(kafka_transport, records[-1])
        assert [(it.lag, it.lost) for it in await _progress(kafka_transport)] == [(0, 1), (0, 0)]


async def test_a_batch_that_does_not_tell_where_it_ends_is_waited_for_alone(
    kafka_server: KafkaServer,
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    producer: RawProducer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Until another replica has it whole. Here its bytes are put back, and nothing is lost."""
    topic = kafka_settings.kafka_topic
    await _append(producer, topic, 0, 1, 2, 3)
    short = bytes([0, 0, 0, 32])
    was = damage_batch(kafka_server, topic, 0, offset=1, at=_LENGTH_AT, by=short)
    damaged, other = ConformanceReader(kafka_transport, 0), ConformanceReader(kafka_transport, 1)
    with caplog.at_level(logging.WARNING, "transport.kafka"):
        async with damaged.reading(), other.reading():
            sent = 0
            async with asyncio.timeout(30):
                while "waits at a damaged batch" not in caplog.text:
                    sent += 1
                    await _append(producer, topic, 1, sent)
                    await eventually(lambda: contents(other.records[-1:]) == _of(1, sent))  # noqa: B023
            assert contents(damaged.records) == _of(0, 1)
            await _settle(kafka_transport, damaged.records[-1], other.records[-1])
            assert [it.lag for it in await _progress(kafka_transport)] == [2, 0]
            where = f"partition 0 of topic {topic} has a damaged batch at offset 1"
            with pytest.raises(Unreadable, match=f"{where}: let another replica lead"):
                await kafka_transport.ping()
            damage_batch(kafka_server, topic, 0, offset=1, at=_LENGTH_AT, by=was)
            await eventually(lambda: contents(damaged.records) == _of(0, 1, 2, 3))
            await kafka_transport.ping()
            await _settle(kafka_transport, damaged.records[-1])
    assert [(it.lag, it.lost) for it in await _progress(kafka_transport)] == [(0, 0), (0, 0)]


async def test_a_damaged_batch_is_a_dead_letter(
    kafka_server: KafkaServer,
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    producer: RawProducer,
    database_pool: Pool,
) -> None:
    topic = kafka_settings.kafka_topic
    await _append(producer, topic, 0, 1, 2, 3)
    damage_batch(kafka_server, topic, 0, offset=1, at=-2, by=b"\xff")
    records = await kafka_transport.read(Topic.MESSAGES, 0)
    async with KafkaConsumers.running(kafka_transport, database_pool) as site:
        await site.settled()
        rows, (letter,) = await site.rows(), await site.letters()
        assert worker_probe(site.worker, required=True)().status == "up"
    assert rows == _of(0, 1, 3)
    assert (letter["reason"], letter["source_offset"]) == ("undecodable", "1")
    assert "checksum is wrong" in letter["error"]
    assert bytes(letter["body"]) == records[1].body
    kept = dict(zip(letter["header_names"], letter["header_values"], strict=True))
    assert json.loads(kept[b"crossfade.batch"]) == {"records": 1, "damaged": True}


async def _progress(transport: KafkaTransport) -> list[Progress]:
    return list(await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))
