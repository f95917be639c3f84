"""Batches whose bytes changed on the broker's disk: one partition is concerned, and is told of."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException

from compose.local.kafka import KafkaServer
from compose.process.health import worker_probe
from persistence.database.pool import Pool
from tests.support.eventually import eventually
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.kafka_damage import damage_batch
from tests.support.kafka_internals import client_of
from tests.support.record_batches import RawProducer, encode_batch
from transport.conformance.member import Member, contents, drain, messages
from transport.contract import WORKER_GROUP, Topic
from transport.kafka import KafkaTransport
from transport.kafka.delivery.watchdog import Stalls
from transport.settings import TransportSettings

_LENGTH_AT = 8


async def _append(producer: RawProducer, topic: str, partition: int, *numbers: int) -> None:
    """Append each message as a batch of its own."""
    for number in numbers:
        one = good(f"conversation {partition}", number, content=f"{partition}: {number}")
        await producer.append(topic, partition, encode_batch([one]))


def _of(partition: int, *numbers: int) -> list[str]:
    return [f"{partition}: {number}" for number in numbers]


async def test_a_damaged_batch_is_a_dead_letter_and_counts_as_lost_and_stops_nothing_else(
    kafka_server: KafkaServer,
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    producer: RawProducer,
    database_pool: Pool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = kafka_settings.kafka_topic
    await _append(producer, topic, 0, 1, 2, 3)
    damage_batch(kafka_server, topic, 0, offset=1, at=-2, by=b"\xff")
    records = await kafka_transport.read(Topic.MESSAGES, 0)
    assert [record.offset for record in records] == ["0", "1", "2"], "read without a group too"
    with caplog.at_level(logging.WARNING, "transport.kafka"):
        async with KafkaConsumers.running(kafka_transport, database_pool) as site:
            sent = 0
            async with asyncio.timeout(30):
                while "passed over" not in caplog.text:
                    sent += 1
                    await _append(producer, topic, 1, sent)
                    await eventually(_is_row(site, *_of(1, sent)))
            await site.settled(within=20)
            rows, (letter,) = await site.rows(), await site.letters()
    assert sent > 5, "while one partition stood still, the other was read"
    assert rows == _of(0, 1, 3) + _of(1, *range(1, sent + 1))
    assert (letter["reason"], letter["source_offset"]) == ("undecodable", "1")
    assert "checksum is wrong" in letter["error"]
    assert bytes(letter["body"]) == records[1].body
    kept = dict(zip(letter["header_names"], letter["header_values"], strict=True))
    assert json.loads(kept[b"crossfade.batch"]) == {"records": 1, "damaged": True}
    progress = await kafka_transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert [part.lost for part in progress] == [1, 0]
    assert "Replacing" not in caplog.text


async def test_a_batch_that_does_not_tell_where_it_ends_is_waited_for_alone(
    kafka_server: KafkaServer,
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    producer: RawProducer,
    database_pool: Pool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Until another replica has it whole. Here its bytes are put back, and nothing is lost."""
    topic = kafka_settings.kafka_topic
    await _append(producer, topic, 0, 1, 2, 3)
    short = bytes([0, 0, 0, 32])
    was = damage_batch(kafka_server, topic, 0, offset=1, at=_LENGTH_AT, by=short)
    with caplog.at_level(logging.WARNING, "transport.kafka"):
        async with KafkaConsumers.running(kafka_transport, database_pool) as site:
            sent = 0
            async with asyncio.timeout(30):
                while "waits at a damaged batch" not in caplog.text:
                    sent += 1
                    await _append(producer, topic, 1, sent)
                    await eventually(_is_row(site, *_of(1, sent)))

            async def waits_alone() -> bool:
                """A row can be seen before its record is acknowledged."""
                progress = await kafka_transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
                return [part.lag for part in progress] == [2, 0]

            await eventually(waits_alone)
            await kafka_transport.ping()
            told = worker_probe(site.worker, required=True)()
            assert told.status == "degraded", "ready for the other partitions"
            assert f"partition 0 of topic {topic} has a damaged batch at offset 1" in told.detail
            assert "let another replica lead the partition" in told.detail
            damage_batch(kafka_server, topic, 0, offset=1, at=_LENGTH_AT, by=was)
            await site.settled(within=20)
            assert await site.rows() == _of(0, 1, 2, 3) + _of(1, *range(1, sent + 1))
            assert await site.letters() == []
            assert worker_probe(site.worker, required=True)().status == "up"
    assert "Replacing" not in caplog.text


async def test_what_a_client_took_before_it_failed_is_read_again(
    kafka_transport: KafkaTransport,
) -> None:
    """Aiokafka throws away what it had taken of one partition where another makes it raise."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        client = client_of(member.consumer)
        getmany = client.getmany
        dropped: list[int] = []

        async def failing_once(*partitions: Any, **options: Any) -> Any:
            found = await getmany(*partitions, **options)
            if found and not dropped:
                dropped.extend(record.offset for records in found.values() for record in records)
                raise CorruptRecordException("of another partition")
            return found

        # A call that is under way still is the client's own. It ends with the first record.
        client.getmany = failing_once
        await kafka_transport.publish(messages(["1"], partition=0, of=kafka_transport))
        records = await drain(claim, 1, patience=20)
        await kafka_transport.publish(messages(["2"], partition=0, of=kafka_transport))
        records += await drain(claim, 1, patience=20)
        assert dropped, "or this test shows nothing"
        assert contents(records) == ["1", "2"]
        assert member.claims[0] is claim


def test_a_client_that_stops_where_the_last_one_did_is_replaced_ever_later() -> None:
    """Each time costs all partitions of the group a moment."""
    stalls = Stalls()
    assert stalls.patience(0, 7, 5.0) == 5.0
    waits = []
    for _ in range(9):
        stalls.note(0, 7)
        waits.append(stalls.patience(0, 7, 5.0))
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    assert (stalls.patience(0, 8, 5.0), stalls.patience(1, 7, 5.0)) == (5.0, 5.0)
    stalls.note(0, 8)
    assert stalls.patience(0, 8, 5.0) == 10.0


def _is_row(site: KafkaConsumers, content: str) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return content in await site.rows()

    return found
