"""How far readers of committed records can read, and when a broker is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from transport.kafka import KafkaTransport
from transport.kafka.connection.connection import Connector
from transport.kafka.delivery.readable_ends import ReadableEnds
from transport.kafka.loss.identity import Leader, TopicDescription
from transport.kafka.reader import KafkaReader
from transport.settings import TransportSettings


class _CountingReader(KafkaReader):
    """Notes the partitions that are asked for."""

    def __init__(self, connector: Connector, partitions: Sequence[TopicPartition]) -> None:
        super().__init__(connector, partitions)
        self.asked: list[set[int]] = []

    async def readable_ends(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        self.asked.append({at.partition for at in partitions})
        return await super().readable_ends(partitions)


@pytest.fixture
def log(kafka_settings: TransportSettings, kafka_transport: KafkaTransport) -> list[TopicPartition]:
    """Two partitions."""
    return [TopicPartition(kafka_settings.kafka_topic, partition) for partition in (0, 1)]


@pytest_asyncio.fixture
async def reader(
    kafka_settings: TransportSettings, log: list[TopicPartition]
) -> AsyncIterator[_CountingReader]:
    """Of both."""
    reader = _CountingReader(Connector(kafka_settings), log)
    yield reader
    await reader.close()


def _topic(epoch: int = 0) -> TopicDescription:
    return TopicDescription("an id", {0: Leader(1, epoch), 1: Leader(1, 0)})


async def test_a_log_that_did_not_grow_is_not_asked_again(
    reader: _CountingReader, log: list[TopicPartition]
) -> None:
    readable, ends = ReadableEnds(reader), await reader.ends(log)
    for _ in range(3):
        assert await readable.look(_topic(), ends) == ends
    assert reader.asked == [{0, 1}]
    await readable.look(_topic(epoch=1), ends)  # another leader may have another log
    assert reader.asked[1:] == [{0}]
    await readable.look(TopicDescription("another id", _topic(1).leaders), ends)
    assert reader.asked[2:] == [{0, 1}]
    await readable.look(TopicDescription("another id", {}), ends)  # nobody knows whose log it is
    assert reader.asked[3:] == [{0, 1}]


async def test_a_transaction_that_is_open_is_found_and_asked_for_until_it_ends(
    reader: _CountingReader, log: list[TopicPartition], kafka_settings: TransportSettings
) -> None:
    readable, before = ReadableEnds(reader), await reader.ends(log)
    await readable.look(_topic(), before)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_settings.kafka_bootstrap_servers,
        transactional_id=f"{kafka_settings.kafka_topic}-stranger",
    )
    async with producer:
        async with producer.transaction():
            await producer.send_and_wait(log[0].topic, b"open", partition=0)
            for _ in range(2):
                ends = await reader.ends(log)
                assert ends[log[0]] > before[log[0]]
                assert await readable.look(_topic(), ends) == before
        async with asyncio.timeout(10):
            ends = await reader.ends(log)
            while await readable.look(_topic(), ends) != ends:  # the marker is on its way
                ends = await reader.ends(log)
    asked = len(reader.asked)
    assert await readable.look(_topic(), ends) == ends
    assert len(reader.asked) == asked
    assert all(of == {0} for of in reader.asked[1:])
