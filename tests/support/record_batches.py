"""Record batches byte by byte, and a client that appends them: what no producer library will write.

The layout is version 2 of Kafka's message format; its field names are those of the protocol guide.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from transport.kafka.produce import Produce

__all__ = ["CODECS", "Raw", "RawProducer", "encode_batch", "raw_producer"]

CODECS = {
    "none": (0, bytes),
    "gzip": (1, gzip_encode),
    "snappy": (2, snappy_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}
_HEADER = struct.Struct(">qiibIhiqqqhii")
_AFTER_LENGTH, _CRC_AT, _ATTRIBUTES_AT = 12, 17, 21


class Raw(NamedTuple):
    """A record as it is to stand in the log. Header names are bytes, as they are there."""

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
) -> bytes:
    """Return a batch of ``records``; ``timestamp`` is in milliseconds since the epoch.

    ``compress`` takes the place of what ``compression`` names, in the same format.
    """
    codec, usual = CODECS[compression]
    compress = compress or usual
    packed = compress(b"".join(_record(one, at) for at, one in enumerate(records)))
    batch = bytearray(
        _HEADER.pack(
            0, _HEADER.size + len(packed) - _AFTER_LENGTH, -1, 2, 0, codec, len(records) - 1,
            timestamp, timestamp, -1, -1, -1, len(records),
        )
    ) + packed  # fmt: skip
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_ATTRIBUTES_AT:])))
    return bytes(batch)


class RawProducer:
    """Appends batches as they are given."""

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
        found: tuple[int, int] = answer.partitions[topic, partition]
        return found

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
