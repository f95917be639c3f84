"""Reads from offsets that a broker does not have: its log was cut a moment ago, or it is behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
import pytest_asyncio
from aiokafka.structs import TopicPartition

from transport.conformance.envelopes import messages
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.connection.connection import Connector
from transport.kafka.reader import KafkaReader
from transport.settings import TransportSettings

_RECORDS, _END_BEFORE = 10, 30


class _ReaderBefore(KafkaReader):
    """Knows the end of a log as it was before the log lost its tail."""

    async def readable_ends(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, _END_BEFORE)


@pytest_asyncio.fixture
async def log(kafka_settings: TransportSettings, kafka_transport: KafkaTransport) -> TopicPartition:
    """A partition with ten records."""
    texts = [str(number) for number in range(_RECORDS)]
    await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
    return TopicPartition(kafka_settings.kafka_topic, 0)


@pytest_asyncio.fixture
async def reader(
    kafka_settings: TransportSettings, log: TopicPartition
) -> AsyncIterator[_ReaderBefore]:
    """Of this partition."""
    reader = _ReaderBefore(Connector(kafka_settings), [log])
    yield reader
    await reader.close()


async def test_no_other_record_is_read_in_place_of_a_lost_one(
    reader: _ReaderBefore, log: TopicPartition
) -> None:
    """Aiokafka goes back to the beginning of the log."""
    with pytest.raises(TransportUnavailable, match="no longer has this offset"):
        await reader.first_of_each({log: 20}, {log: _END_BEFORE})
    with pytest.raises(TransportUnavailable, match="no longer has this offset"):
        await reader.read(log, 20, 5)
    with pytest.raises(TransportUnavailable, match="no longer has this offset"):
        await reader.read_back(log, None, 5)
    assert [raw.offset for raw in await reader.read(log, 5, 5)] == [5, 6, 7, 8, 9]
