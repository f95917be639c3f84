"""Reading without a group: records by offset, and where each partition begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.structs import TopicPartition

from transport.kafka.closing import discard_consumer
from transport.kafka.connection import Connector
from transport.kafka.lender import Lender

__all__ = ["Reader"]


class Reader:
    """One client that has every partition assigned and paused; a read resumes those it wants."""

    def __init__(self, connector: Connector, partitions: Sequence[TopicPartition]) -> None:
        self._connector = connector
        self._partitions = partitions
        self._client = Lender(self._assigned, discard_consumer, timeout=connector.timeout)
        self._reading = asyncio.Lock()

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def begins(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that each partition still holds (its end where it is empty).

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        async with self._client.lent() as consumer:
            offsets: Mapping[TopicPartition, int] = await consumer.beginning_offsets(partitions)
            return offsets

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset that the next record of each partition will get.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        async with self._client.lent() as consumer:
            offsets: Mapping[TopicPartition, int] = await consumer.end_offsets(partitions)
            return offsets

    async def read(
        self, partition: TopicPartition, start: int, limit: int
    ) -> Sequence[ConsumerRecord]:
        """Return up to ``limit`` records from offset ``start`` on (or from the first held).

        Raises:
            TransportUnavailable: Kafka can't be read now.
        """
        end = (await self.ends([partition]))[partition]
        begin = (await self.begins([partition]))[partition] if start < end else end
        start = max(start, begin)
        found: list[ConsumerRecord] = []
        if start >= end or limit < 1:
            return found
        async with self._reading, self._client.lent() as consumer:
            consumer.seek(partition, start)
            consumer.resume(partition)
            try:
                while len(found) < limit and await consumer.position(partition) < end:
                    got = await consumer.getmany(
                        partition, timeout_ms=500, max_records=limit - len(found)
                    )
                    found.extend(record for record in got.get(partition, ()) if record.offset < end)
            finally:
                consumer.pause(partition)
        return found

    async def first_of_each(
        self, starts: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, ConsumerRecord]:
        """Return the record at or after each offset; every one must be below its partition's end.

        Raises:
            TransportUnavailable: Kafka can't be read now.
        """
        found: dict[TopicPartition, ConsumerRecord] = {}
        async with self._reading, self._client.lent() as consumer:
            for partition, start in starts.items():
                consumer.seek(partition, start)
            consumer.resume(*starts)
            try:
                while missing := [partition for partition in starts if partition not in found]:
                    got = await consumer.getmany(*missing, timeout_ms=500)
                    for partition, records in got.items():
                        consumer.pause(partition)
                        found[partition] = records[0]
            finally:
                consumer.pause(*starts)
        return found

    async def _assigned(self) -> AIOKafkaConsumer:
        consumer = await self._connector.reader()
        consumer.assign(self._partitions)
        consumer.pause(*self._partitions)
        return consumer
