"""Records that aiokafka's builder can't write, each encoded here in a batch of its own.

These are records with a header name that is not UTF-8, and records that fit into their topic only
if they are compressed.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from aiokafka.codec import zstd_encode
from aiokafka.record.util import calc_crc32c, encode_varint

from transport.kafka.records import Outgoing, raw_name

__all__ = ["Packed", "PackedBuilder", "pack", "packed_batch"]

# The fields of a batch's head, up to its records (message format 2).
_HEAD = struct.Struct(">qiibIhiqqqhii")
_AFTER_LENGTH, _CRC_AT, _CRC, _ATTRIBUTES_AT = 12, 17, struct.Struct(">I"), 21
_MAGIC = 2
_PLAIN, _ZSTD = 0, 4


class Packed(NamedTuple):
    """The encoded bytes of one record, and the number of the codec that compresses them."""

    codec: int
    data: bytes

    @property
    def size(self) -> int:
        """The bytes of the batch."""
        return _HEAD.size + len(self.data)


def pack(record: Outgoing, *, most: int) -> Packed | None:
    """Return ``record`` so that its batch has at most ``most`` bytes; ``None`` if that can't be.

    It is compressed only if it has to be, and then with zstd whatever the settings say: zstd makes
    the smallest output in the least time. 10 MB take some 20 ms, so don't call this on the event
    loop.
    """
    plain = Packed(_PLAIN, _encode(record))
    if plain.size <= most:
        return plain
    small = Packed(_ZSTD, bytes(zstd_encode(plain.data)))
    return small if small.size <= most else None


class PackedBuilder:
    """A builder of a packed batch, with the interface that ``Batch`` uses."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._state = (-1, -1, -1)

    def set_producer_state(self, producer: int, epoch: int, sequence: int) -> None:
        """Set the numbers by which the broker recognises the batch."""
        self._state = (producer, epoch, sequence)

    def build(self) -> bytes:
        """Return the batch."""
        return packed_batch(self._packed, *self._state)


def packed_batch(packed: Packed, producer: int, epoch: int, sequence: int) -> bytes:
    """Return the batch of one record. The broker sets its offset and its time."""
    codec, data = packed
    now = int(time.time() * 1000)
    length = _HEAD.size + len(data) - _AFTER_LENGTH
    batch = bytearray(
        _HEAD.pack(0, length, -1, _MAGIC, 0, codec, 0, now, now, producer, epoch, sequence, 1)
    )
    batch += data
    _CRC.pack_into(batch, _CRC_AT, calc_crc32c(memoryview(batch)[_ATTRIBUTES_AT:].tobytes()))
    return bytes(batch)


def _encode(record: Outgoing) -> bytes:
    body = bytearray(b"\0\0\0")  # no attributes; no difference in time and offset to its batch
    _put(body, record.key)
    _put(body, record.value)
    encode_varint(len(record.headers), body.append)
    for name, value in record.headers:
        _put(body, raw_name(name))
        _put(body, value)
    framed = bytearray()
    encode_varint(len(body), framed.append)
    return bytes(framed + body)


def _put(body: bytearray, field: bytes | None) -> None:
    if field is None:
        encode_varint(-1, body.append)
    else:
        encode_varint(len(field), body.append)
        body += field
