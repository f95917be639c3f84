"""Reads without a group: records by offset, and the beginning and end of each partition."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import OffsetAndTimestamp, TopicPartition

from transport.contract import READ_BYTES
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.connection.closing import discard_consumer
from transport.kafka.connection.connection import Connector
from transport.kafka.records import raw_size

__all__ = ["FirstRecord", "KafkaReader"]

_POLL_MS = 5  # also the delay until a fetch that brought only markers is noticed
_LOOK_MOST = 1.0
_NARROWER = 8
_WIDER = 4  # the factor by which each look back goes further, as offsets have gaps
_WIDEST = 4_000
_LATEST_MS = 2**63 - 1
_PEEK_BYTES = 192 * 1024  # more than any batch of ours; with less, a fetch brings one partition


class FirstRecord(NamedTuple):
    """The first record that was found, if any. There is no record below ``offset``."""

    record: ConsumerRecord | None
    offset: int


class KafkaReader:
    """Reads with three clients, which have every partition assigned and paused.

    A read resumes the partitions that it wants. One client fetches much at a time. The other two
    look at single records, and fetch as little as they can; the last one also reads uncommitted
    records, and so knows the real end of a partition.
    """

    def __init__(self, connector: Connector, partitions: Sequence[TopicPartition]) -> None:
        self._partitions = list(partitions)
        timeout = connector.timeout
        self.look_within = min(_LOOK_MOST, timeout / 4)
        """Seconds after which a look should end if others wait for it."""
        self._client = ClientPool(
            lambda: self._assigned(connector.reader()), discard_consumer, timeout=timeout
        )
        self._peeker = ClientPool(
            lambda: self._assigned(connector.reader(fetch_bytes=_PEEK_BYTES)),
            discard_consumer,
            timeout=timeout,
        )
        self._uncommitted = ClientPool(
            lambda: self._assigned(connector.reader(fetch_bytes=_PEEK_BYTES, committed=False)),
            discard_consumer,
            timeout=timeout,
        )
        self._pools = (self._client, self._peeker, self._uncommitted)
        self._reading = asyncio.Lock()
        self._peeking = asyncio.Lock()

    async def close(self) -> None:
        """Disconnect."""
        for pool in self._pools:
            await pool.close()

    def include(self, partitions: Sequence[TopicPartition]) -> None:
        """Make ``partitions`` readable, which may have been added to a topic."""
        self._partitions += [each for each in partitions if each not in self._partitions]

    async def begins(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that each partition still has, or its end if it is empty.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        offsets: Mapping[TopicPartition, int] = await self._client.ask(
            lambda consumer: consumer.beginning_offsets(partitions)
        )
        return offsets

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset that the next record of each partition will get.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        offsets: Mapping[TopicPartition, int] = await self._uncommitted.ask(
            lambda consumer: consumer.end_offsets(partitions)
        )
        return offsets

    async def readable_ends(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Return the end of each partition for readers of committed records (KIP-98).

        That is the first record of the oldest open transaction, or else the partition's end.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        offsets: Mapping[TopicPartition, int] = await self._client.ask(
            lambda consumer: consumer.end_offsets(partitions)
        )
        return offsets

    async def read(
        self, partition: TopicPartition, start: int, limit: int
    ) -> Sequence[ConsumerRecord]:
        """Return up to ``limit`` records from offset ``start`` on, or from the first one there is.

        Records of aborted transactions, and records after the start of an open one, are left out.

        Raises:
            TransportUnavailable: Kafka can't be read now.
        """
        end = (await self.readable_ends([partition]))[partition]
        begin = (await self.begins([partition]))[partition] if start < end else end
        return await self._between(partition, max(start, begin), end, limit)

    async def read_back(
        self, partition: TopicPartition, stop: int | None, limit: int
    ) -> Sequence[ConsumerRecord]:
        """Return the last ``limit`` records below offset ``stop`` (``None``: the end), in order.

        Offsets have gaps (markers of transactions, aborted or compacted records), so it looks back
        further and further until it has enough records or reaches the beginning.

        Raises:
            TransportUnavailable: Kafka can't be read now.
        """
        end = (await self.readable_ends([partition]))[partition]
        begin = (await self.begins([partition]))[partition]
        stop = end if stop is None else min(stop, end)
        found: list[ConsumerRecord] = []
        width = limit
        while stop > begin and len(found) < limit:
            start = max(begin, stop - width)
            part = await self._between(partition, start, stop, stop - start)
            size = sum(map(raw_size, part))
            if size >= READ_BYTES and width > 1:
                width = max(1, width // _NARROWER)  # the read may have ended before the last ones
                continue
            found = list(part) + found
            if sum(map(raw_size, found)) >= READ_BYTES:
                break
            stop, width = start, min(width * _WIDER, max(limit, _WIDEST))
        return found[-limit:] if limit > 0 else []

    async def at_time(self, partition: TopicPartition, time: float) -> int:
        """Return the first offset whose record is of ``time`` or later; the end if there is none.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        milliseconds = min(max(0, math.ceil(time * 1000)), _LATEST_MS)
        found: Mapping[TopicPartition, OffsetAndTimestamp | None] = await self._client.ask(
            lambda consumer: consumer.offsets_for_times({partition: milliseconds})
        )
        first = found.get(partition)
        return first.offset if first else (await self.readable_ends([partition]))[partition]

    async def _between(
        self, partition: TopicPartition, start: int, end: int, limit: int
    ) -> Sequence[ConsumerRecord]:
        """Return up to ``limit`` records from ``start`` on, below ``end``.

        Reading ends with the fetch that reaches ``READ_BYTES``.
        """
        if start >= end or limit < 1:
            return []

        async def fetch(consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
            found: list[ConsumerRecord] = []
            size = 0
            self._assign(consumer)
            consumer.seek(partition, start)
            consumer.resume(partition)
            try:
                while (
                    len(found) < limit
                    and size < READ_BYTES
                    and _require_from(start, await consumer.position(partition)) < end
                ):
                    got = await consumer.getmany(
                        partition, timeout_ms=_POLL_MS, max_records=limit - len(found)
                    )
                    records = [raw for raw in got.get(partition, ()) if raw.offset < end]
                    if records:
                        _require_from(start, records[0].offset)
                    found += records
                    size += sum(map(raw_size, records))
            finally:
                consumer.pause(partition)
                # Drop records that were fetched beyond the limit: they keep aiokafka from fetching
                # anything else from the same broker, for up to 0.1 s.
                consumer.seek(partition, start)
            return found

        async with self._reading:
            return await self._client.ask(fetch)

    async def first_of_each(
        self,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        *,
        committed: bool = True,
        within: float | None = None,
    ) -> dict[TopicPartition, FirstRecord]:
        """Look for the first record of each partition between its start and its end.

        There may be none: markers of transactions, and aborted or compacted records, have offsets
        too.

        Args:
            starts: The first offset to look at, by partition.
            ends: The offset to stop at, by partition.
            committed: Whether to skip uncommitted records.
            within: Seconds after which the look ends, however far it has come in each partition;
                ``None``: look until all partitions have an answer.

        Raises:
            TransportUnavailable: Kafka can't be read now.
        """

        async def fetch(consumer: AIOKafkaConsumer) -> dict[TopicPartition, FirstRecord]:
            loop = asyncio.get_running_loop()
            deadline = None if within is None else loop.time() + within
            found = {at: FirstRecord(None, start) for at, start in starts.items()}
            self._assign(consumer)
            for partition, start in starts.items():
                consumer.seek(partition, start)
            consumer.resume(*starts)
            left = list(starts)
            try:
                while left and (deadline is None or loop.time() < deadline):
                    got = await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=1)
                    for partition in list(left):
                        (record, *_) = got.get(partition, (None,))
                        if record is not None:
                            _require_from(starts[partition], record.offset)
                        if record is not None and record.offset < ends[partition]:
                            found[partition] = FirstRecord(record, record.offset)
                        else:
                            position = await consumer.position(partition)
                            _require_from(starts[partition], position)
                            found[partition] = FirstRecord(None, min(position, ends[partition]))
                            if position < ends[partition]:
                                continue
                        consumer.pause(partition)
                        left.remove(partition)
            finally:
                consumer.pause(*starts)
            return found

        async with self._peeking:
            return await (self._peeker if committed else self._uncommitted).ask(fetch)

    async def _assigned(self, connecting: Awaitable[AIOKafkaConsumer]) -> AIOKafkaConsumer:
        consumer = await connecting
        self._assign(consumer)
        return consumer

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        if len(consumer.assignment()) < len(self._partitions):
            consumer.assign(self._partitions)
            consumer.pause(*self._partitions)


def _require_from(start: int, offset: int) -> int:
    """Return ``offset``, of a client that was to read from ``start`` on.

    A broker without the offset ``start`` makes the client begin with the first record. It may be a
    replica that is behind, in our rack, or the log lost its tail a moment ago.

    Raises:
        OffsetOutOfRangeError: the client has gone back below ``start``.
    """
    if offset < start:
        raise OffsetOutOfRangeError(f"no offset {start}")
    return offset
