"""Record batches that are not what Kafka confirmed: a disk or a network changed their bytes.

No broker looks at a checksum when it sends a batch, so it is the reader that finds out. aiokafka
raises for that, and throws away what it had taken of *other* partitions in the same call. So a
damaged batch is given as one record that says what it stands for (``Damage``): its value is
the batch as it stands, and its header ``HEADER_BATCH`` says that it is one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.record.util import calc_crc32c

__all__ = ["HEADER_BATCH", "Damage", "DamagedBatch", "damage_of", "follows_well"]

HEADER_BATCH = "crossfade.batch"
"""On what stands for a batch that was not read: JSON, how many records, and their compression."""

_START, _MAGIC_AT, _MAGIC = struct.Struct(">qi"), 16, 2  # offset, and how many bytes follow
_CRC, _CRC_AT, _CHECKED_FROM = struct.Struct(">I"), 17, 21
_DELTA_AT, _TIME_AT, _COUNT_AT, _HEADER_BYTES = 23, 35, 57, 61
_INT, _LONG = struct.Struct(">i"), struct.Struct(">q")
_ANYWHERE = 2**62  # an offset that no fetch passes over as read already


class Damage(NamedTuple):
    """A damaged batch of so many ``records``; ``end`` is the offset behind its last.

    ``end`` is ``None`` where the batch does not tell any more.
    """

    records: int
    end: int | None


class DamagedBatch:
    """The interface of a batch that aiokafka's fetcher uses."""

    is_control_batch = False
    is_transactional = False
    producer_id = None

    def __init__(self, data: memoryview, *, placed: bool) -> None:
        """Stand for the batch that ``data`` begins with. ``placed``: its offset is right."""
        self._data = data
        base, size = _START.unpack_from(data)
        size += _START.size
        self._batch = data[:size] if _HEADER_BYTES <= size <= len(data) else data
        self.base_offset = base if placed else _ANYWHERE
        end = _end(data, base, size) if placed else None
        records = 1 if end is None else end - base
        self._damage = Damage(records, end)
        self.next_offset = self.base_offset + 1 if end is None else end

    def validate_crc(self) -> bool:
        """Tell the fetcher to go on: it would raise otherwise."""
        return True

    def __iter__(self) -> Iterator[Any]:
        time = 0
        if len(self._batch) >= _HEADER_BYTES:
            (time,) = _LONG.unpack_from(self._batch, _TIME_AT)
        header = json.dumps({"records": self._damage.records, "damaged": True})
        yield _DamageRecord(
            self.base_offset,
            max(0, min(time, 2**53)),  # it may be anything
            0,
            None,
            bytes(self._batch),
            [(HEADER_BATCH, header.encode())],
            self._damage,
        )


class _DamageRecord(NamedTuple):
    """The interface of a record that aiokafka's fetcher uses. It passes ``checksum`` on."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: Damage


def damage_of(record: Any) -> Damage | None:
    """Return the damage that a fetched record stands for, if it stands for any."""
    checksum = record.checksum
    return checksum if isinstance(checksum, Damage) else None


def follows_well(data: memoryview, at: int, end: int) -> bool:
    """Return whether the batch at ``at``, as far as it was fetched, is one from ``end`` on.

    No checksum covers the offset of a batch.
    """
    return len(data) < at + _LONG.size or _LONG.unpack_from(data, at)[0] >= end


def _end(data: memoryview, base: int, size: int) -> int | None:
    """Return the offset behind a damaged batch of ``size`` bytes, if that is known."""
    if size < _HEADER_BYTES or size > len(data):
        return None
    following = _sound(data[size:])
    if following is not None and following > base:
        return following
    (delta,), (count,) = _INT.unpack_from(data, _DELTA_AT), _INT.unpack_from(data, _COUNT_AT)
    # Both are under the checksum, but that both are wrong in the same way is not to be expected.
    return base + count if count == delta + 1 and count >= 1 else None


def _sound(data: memoryview) -> int | None:
    """Return the offset of the batch that ``data`` begins with, if it is whole and undamaged."""
    if len(data) < _HEADER_BYTES:
        return None
    base, size = _START.unpack_from(data)
    end = _START.size + size
    if not _HEADER_BYTES <= end <= len(data) or data[_MAGIC_AT] != _MAGIC:
        return None
    (crc,) = _CRC.unpack_from(data, _CRC_AT)
    return int(base) if calc_crc32c(bytes(data[_CHECKED_FROM:end])) == crc else None
