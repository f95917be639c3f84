"""A parser of fetched record batches that copes with the batches of any client.

aiokafka decodes header names as strict UTF-8, as the protocol demands, but no broker checks that.
One record with another name made aiokafka raise for the whole fetch, so that every partition of the
client stood still. ``FetchedRecords`` replaces its parser: aiokafka's parser reads each batch
first, as quickly as before, and a batch on which it fails is read again here. A name that is not
UTF-8 is decoded with ``surrogateescape``, which keeps its bytes.

A batch that can't be read here either, or that would be larger than ``UNPACKED_MOST`` unpacked, is
delivered as one record. Its value is the raw batch, and its header ``HEADER_BATCH`` says so.

aiokafka 0.14 can't be given a parser: its fetcher names the class. So ``install`` replaces that
name, for every consumer in the process.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.memory_records import MemoryRecords

from transport.kafka.client.damaged import HEADER_BATCH, DamagedBatch, follows_well
from transport.kafka.client.expansion import GZIP, LZ4, SNAPPY, ZSTD, expands_past

__all__ = ["UNPACKED_MOST", "FetchedRecords", "install"]

log = logging.getLogger(__name__)

UNPACKED_MOST = 32 * 1024 * 1024
"""The most bytes of an unpacked batch: eight times the largest batch of our topics."""
_AT_ONCE = 8 * 1024 * 1024  # the unpacked bytes after which the rest of a fetch is left for later
_CODECS = {0: "none", GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}

_LENGTH, _LENGTH_AT, _LENGTH_ENDS = struct.Struct(">i"), 8, 12
_MAGIC_AT, _WITH_HEADERS = 16, 2
# The head of a batch: offset, length, epoch, magic, CRC, attributes, last offset delta, first and
# last time, producer id, epoch and sequence, number of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_CODEC, _APPEND_TIME = 0x07, 0x08
_DECOMPRESS: Mapping[int, Callable[[bytes], bytes]] = {
    0: bytes,
    GZIP: gzip_decode,
    SNAPPY: snappy_decode,
    LZ4: lz4_decode,
    ZSTD: zstd_decode,
}


class _ParsedRecord(NamedTuple):
    """A parsed record, with the interface that aiokafka's fetcher uses."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class FetchedRecords:
    """The batches of one partition in one answer, with the interface of ``MemoryRecords``.

    A damaged batch (``damaged``) is only returned as the first batch: batches before it are
    returned alone, and the damaged one is fetched again.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._batches = MemoryRecords(data)
        self._at = 0
        self._end: int | None = None
        self._unpacked = 0
        self._ahead: Any = None
        self._given = False

    def has_next(self) -> bool:
        """Return whether to read another batch now. Batches that are left are fetched again."""
        if self._unpacked >= _AT_ONCE:
            return False
        if self._ahead is None:
            self._ahead = self._look()
        return self._ahead is not None and not (
            self._given and isinstance(self._ahead, DamagedBatch)
        )

    def size_in_bytes(self) -> int:
        """Return the number of bytes that were fetched."""
        return len(self._data)

    def next_batch(self) -> Any:
        """Return the next batch, after ``has_next`` returned true."""
        batch, self._ahead = self._ahead, None
        self._given = True
        return batch

    def _look(self) -> Any:
        """Return the next batch, if there is one. Never raises: no caller handles an error."""
        at, size = self._at, len(self._data) - self._at
        if size < _LENGTH_ENDS:
            return None
        try:
            whole = self._batches.has_next()
            batch = self._batches.next_batch() if whole else None
            sound = batch is not None and bool(batch.validate_crc())
        except Exception:  # noqa: BLE001 - a parser in Cython may raise anything
            whole, sound = True, False
        if not whole and self._given:
            return None  # Kafka may cut off the last batch of an answer, but not the first one
        if batch is None or not sound:
            self._at = len(self._data)
            return DamagedBatch(self._data[at:], placed=True)
        self._at += _LENGTH_ENDS + _LENGTH.unpack_from(self._data, at + _LENGTH_AT)[0]
        if self._data[at + _MAGIC_AT] < _WITH_HEADERS:
            return batch
        contiguous = batch.base_offset == self._end
        placed = self._end is None or batch.base_offset >= self._end
        if not placed or not (contiguous or follows_well(self._data, self._at, batch.next_offset)):
            self._at = len(self._data)
            return DamagedBatch(self._data[at:], placed=False)
        self._end = batch.next_offset
        return _ParsedBatch(batch, self._data[at : self._at], self._count)

    def _count(self, size: int) -> None:
        self._unpacked += size


class _ParsedBatch:
    """aiokafka's batch, with our parser for batches that it can't read."""

    def __init__(self, batch: Any, data: memoryview, unpacked: Callable[[int], None]) -> None:
        self._batch = batch
        self._data = data
        self._unpacked = unpacked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        """Return ``True``: ``FetchedRecords`` has checked the checksum."""
        return True

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        codec = self._batch.compression_type
        if codec and expands_past(codec, bytes(self._data[_HEADER.size :]), UNPACKED_MOST):
            return iter([_raw_batch_record(self._data)])
        records = self._read()
        if codec:
            self._unpacked(sum(map(_size, records)))
        return iter(records)

    def _read(self) -> list[Any]:
        # The checksum is right, so any error from here on is in the batch that the producer wrote.
        with suppress(Exception):  # parsers in Cython may raise anything
            records = list(self._batch)
            if _in_place(records, self._batch.base_offset, self._batch.next_offset):
                return records
        try:
            return list(_records(self._data))
        except Exception as error:  # noqa: BLE001 - parsers in Cython and Rust may raise anything
            log.warning(
                "A record batch can't be parsed; delivered whole as one record",
                extra={"error": str(error)},
            )
            return [_raw_batch_record(self._data)]


def _in_place(records: list[Any], begin: int, end: int) -> bool:
    """Return whether the records' offsets are plausible for a batch from ``begin`` to ``end``.

    aiokafka reads a record's attributes (one byte) as a number of variable length. If their high
    bit is set, it may read other bytes as the offset, and records would be skipped as already read.
    """
    offsets = [record.offset for record in records]
    if offsets == list(range(begin, end)):
        return True
    return all(first < second for first, second in pairwise([begin - 1, *offsets, end]))


def _size(record: Any) -> int:
    return (
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(value or b"") for _, value in record.headers)
    )


def _records(data: memoryview) -> Iterator[_ParsedRecord]:
    """Yield the records of a batch.

    Raises:
        CorruptRecordException: the batch lacks the structure that brokers require.
        UnsupportedCodecError: its compression is unknown.
    """
    base, *_, attributes, _last, first_time, last_time, _, _, _, count = _HEADER.unpack_from(data)
    codec = attributes & _CODEC
    if codec not in _DECOMPRESS:
        raise UnsupportedCodecError(f"Unknown compression codec {codec:#04x}")
    cursor = _Cursor(_DECOMPRESS[codec](bytes(data[_HEADER.size :])))
    of_append = bool(attributes & _APPEND_TIME)
    for _ in range(count):
        length = cursor.varint()
        end = cursor.at + length
        cursor.skip(1)  # attributes, which have no meaning yet
        since, delta = cursor.varint(), cursor.varint()
        key, value = cursor.bytes(), cursor.bytes()
        headers = [(cursor.name(), cursor.bytes()) for _ in range(cursor.varint())]
        if cursor.at != end:
            raise CorruptRecordException(f"a record of {length} bytes ends {cursor.at - end} late")
        time = last_time if of_append else first_time + since
        yield _ParsedRecord(base + delta, time, int(of_append), key, value, headers)


def _raw_batch_record(data: memoryview) -> _ParsedRecord:
    """Return the raw batch as one record, at the offset of its first record."""
    base, *_, attributes, _last, _, last_time, _, _, _, count = _HEADER.unpack_from(data)
    codec = attributes & _CODEC
    told = f'{{"records":{count},"compression":"{_CODECS.get(codec, codec)}"}}'
    headers: list[tuple[str, bytes | None]] = [(HEADER_BATCH, told.encode())]
    of_append = int(bool(attributes & _APPEND_TIME))
    return _ParsedRecord(base, last_time, of_append, None, bytes(data), headers)


class _Cursor:
    """A position in decompressed records."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def skip(self, count: int) -> None:
        self.at += count

    def varint(self) -> int:
        value = shift = 0
        try:
            while True:
                byte = self._data[self.at]
                self.at += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:  # noqa: PLR2004 - the last has no high bit
                    return (value >> 1) ^ -(value & 1)
                shift += 7
        except IndexError:
            raise CorruptRecordException("a record ends within a number") from None

    def bytes(self) -> bytes | None:
        length = self.varint()
        if length < 0:
            return None
        start, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise CorruptRecordException("a record ends within a field")
        return self._data[start : self.at]

    def name(self) -> str:
        return (self.bytes() or b"").decode("utf-8", "surrogateescape")


def install() -> None:
    """Make all consumers of this process parse with ``FetchedRecords``."""
    fetcher.MemoryRecords = FetchedRecords
