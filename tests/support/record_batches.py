"""Record batches byte by byte, and a client that appends them.

The layout is version 2 of Kafka's message format; its field names are those of the protocol guide.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import ConcurrentTransactions, GroupLoadInProgressError, KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from transport.kafka.producer.produce import Produce

__all__ = ["CODECS", "Raw", "RawProducer", "encode_batch", "raw_producer"]

CODECS = {
    "none": (0, bytes),
    "gzip": (1, gzip_encode),
    "snappy": (2, snappy_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}
_HEADER = struct.Struct(">qiibIhiqqqhii")
_BUSY = (ConcurrentTransactions, GroupLoadInProgressError)
_TRANSACTIONAL = 0x10
_AFTER_LENGTH, _CRC_AT, _ATTRIBUTES_AT = 12, 17, 21


class Raw(NamedTuple):
    """A record for a batch. Header names are bytes, as in the log."""

    key: bytes | None = b"key"
    value: bytes | None = b"value"
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    attributes: int = 0
    timestamp_delta: int = 0


def _varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _record(record: Raw, offset: int) -> bytes:
    headers = [_text(name) + _text(value) for name, value in record.headers]
    body = b"".join(
        (
            bytes([record.attributes]), _varint(record.timestamp_delta), _varint(offset),
            _text(record.key), _text(record.value), _varint(len(headers)), *headers,
        )
    )  # fmt: skip
    return _varint(len(body)) + body


def encode_batch(
    records: Sequence[Raw],
    *,
    compression: str = "none",
    timestamp: int = 1_700_000_000_000,
    compress: Callable[[bytes], bytes] | None = None,
    transaction: tuple[int, int] | None = None,
) -> bytes:
    """Return a batch of ``records``; ``timestamp`` is in milliseconds since the epoch.

    ``compress`` replaces the compressor for the format ``compression``. With ``transaction``, the
    producer's id and epoch, the batch is the first of a transaction.
    """
    codec, usual = CODECS[compression]
    compress = compress or usual
    packed = compress(b"".join(_record(record, at) for at, record in enumerate(records)))
    batch = bytearray(
        _HEADER.pack(
            0, _HEADER.size + len(packed) - _AFTER_LENGTH, -1, 2, 0,
            codec | (_TRANSACTIONAL if transaction else 0), len(records) - 1, timestamp, timestamp,
            *(transaction or (-1, -1)), 0 if transaction else -1, len(records),
        )
    ) + packed  # fmt: skip
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_ATTRIBUTES_AT:])))
    return bytes(batch)


class RawProducer:
    """Appends batches without changes."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def stored(self, topic: str, partition: int) -> bytes:
        """Return the record batches of a partition as the broker has them, up to 50 MB."""
        leader = await self._leader(topic, partition)
        ask = FetchRequest(500, 1, 50_000_000, 0, [(topic, [(partition, 0, 50_000_000)])])
        answer = await self._client.send(leader, ask)
        ((_, ((_, code, *_, data),)),) = answer.topics
        assert code == 0, f"the broker did not answer: error {code}"
        return bytes(data)

    async def append(self, topic: str, partition: int, batch: bytes) -> int:
        """Append a batch; return its first offset. Fails if the broker refuses it."""
        code, offset = await self.outcome(topic, partition, batch)
        assert code == 0, f"the broker refused the batch: error {code}"
        return offset

    async def outcome(self, topic: str, partition: int, batch: bytes) -> tuple[int, int]:
        """Send a batch; return the broker's error code (0: none) and the first offset."""
        leader = await self._leader(topic, partition)
        answer = await self._client.send(leader, Produce({topic: [(partition, batch)]}, 5000))
        code, offset, _time = answer.partitions[topic, partition]
        return code, offset

    async def transact(
        self, topic: str, partition: int, records: Sequence[Raw], *, commit: bool, **of_batch: Any
    ) -> None:
        """Append a batch in a transaction of its own, and commit or abort it."""
        name = f"transact-{topic}"
        await self._coordinator(name)
        begun = await self._ask(InitProducerIdRequest(name, 60_000))
        who = (begun.producer_id, begun.producer_epoch)
        added = await self._ask(AddPartitionsToTxnRequest(name, *who, [(topic, [partition])]))
        assert added.errors == [(topic, [(partition, 0)])], added
        batch = encode_batch(records, transaction=who, **of_batch)
        ask = ProduceRequest(name, -1, 5000, [(topic, [(partition, batch)])])
        answer = await self._client.send(await self._leader(topic, partition), ask)
        assert answer.topics[0][1][0][1] == 0, f"the broker refused the batch: {answer}"
        await self._ask(EndTxnRequest(name, *who, commit))

    async def _coordinator(self, transactional_id: str) -> None:
        """Wait for the coordinator, which the broker makes at the first request."""
        while True:
            try:
                await self._client.coordinator_lookup(
                    CoordinationType.TRANSACTION, transactional_id
                )
            except KafkaError as error:
                assert error.retriable, error
                await asyncio.sleep(0.05)
            else:
                return

    async def _ask(self, request: Any) -> Any:
        """Ask the coordinator (of a cluster of one) until it is ready."""
        while True:
            answer = await self._client.send(self._client.get_random_node(), request)
            code = getattr(answer, "error_code", 0)
            if not code and all(c == 0 for _, of in getattr(answer, "errors", ()) for _, c in of):
                return answer
            error = for_code(code) if code else for_code(answer.errors[0][1][0][1])
            assert error.retriable or error in _BUSY, error
            await asyncio.sleep(0.02)

    async def _leader(self, topic: str, partition: int) -> int:
        await self._client.set_topics([topic])
        at = TopicPartition(topic, partition)
        while (leader := self._client.cluster.leader_for_partition(at)) in (None, -1):
            await asyncio.sleep(0.05)
            await self._client.force_metadata_update()
        return int(leader)


@asynccontextmanager
async def raw_producer(bootstrap: str) -> AsyncIterator[RawProducer]:
    """Connect to a broker."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        yield RawProducer(client)
    finally:
        await client.close()
