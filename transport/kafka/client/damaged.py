"""Damaged record batches: a disk or a network changed the bytes that Kafka had acknowledged.

Brokers don't check the checksum of a batch that they send, so the reader finds the damage. aiokafka
raises an error then, and drops records of *other* partitions from the same call. So here a damaged
batch is delivered as one record, with a ``Damage`` beside it. The record's value is the raw batch,
and its header ``HEADER_BATCH`` marks it as a batch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.record.util import calc_crc32c

__all__ = ["ANYWHERE", "HEADER_BATCH", "Damage", "DamagedBatch", "damage_of", "follows_well"]

HEADER_BATCH = "crossfade.batch"
"""The header of a record that stands for a whole batch: JSON with the number of records, and their
compression or the fact that they are damaged."""

_START, _MAGIC_AT, _MAGIC = struct.Struct(">qi"), 16, 2  # offset, and the length of the rest
_CRC, _CRC_AT, _CHECKED_FROM = struct.Struct(">I"), 17, 21
_DELTA_AT, _TIME_AT, _COUNT_AT, _HEADER_BYTES = 23, 35, 57, 61
_INT, _LONG = struct.Struct(">i"), struct.Struct(">q")
ANYWHERE = 2**62
"""The offset of a damaged batch whose own can't be trusted: no fetch skips it as already read."""


class Damage(NamedTuple):
    """A damaged batch: how many ``records`` it has, and the offset after its last one.

    ``end`` is ``None`` if the batch no longer tells it.
    """

    records: int
    end: int | None


class DamagedBatch:
    """A damaged batch, with the interface that aiokafka's fetcher uses."""

    is_control_batch = False
    is_transactional = False
    producer_id = None

    def __init__(self, data: memoryview, *, placed: bool) -> None:
        """Take the batch that ``data`` begins with. ``placed``: its offset can be trusted."""
        self._data = data
        base, size = _START.unpack_from(data)
        size += _START.size
        self._batch = data[:size] if _HEADER_BYTES <= size <= len(data) else data
        self.base_offset = base if placed else ANYWHERE
        end = _end(data, base, size) if placed else None
        records = 1 if end is None else end - base
        self._damage = Damage(records, end)
        self.next_offset = self.base_offset + 1 if end is None else end

    def validate_crc(self) -> bool:
        """Return ``True``, or the fetcher would raise an error."""
        return True

    def __iter__(self) -> Iterator[Any]:
        time = 0
        if len(self._batch) >= _HEADER_BYTES:
            (time,) = _LONG.unpack_from(self._batch, _TIME_AT)
        header = json.dumps({"records": self._damage.records, "damaged": True})
        yield _DamageRecord(
            self.base_offset,
            max(0, min(time, 2**53)),  # damaged, the time may be any number
            0,
            None,
            bytes(self._batch),
            [(HEADER_BATCH, header.encode())],
            self._damage,
        )


class _DamageRecord(NamedTuple):
    """A damaged batch as a record, with the interface that aiokafka's fetcher uses.

    The fetcher passes ``checksum`` on, so it carries the damage.
    """

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: Damage


def damage_of(record: Any) -> Damage | None:
    """Return the damage if a fetched record stands for a damaged batch, else ``None``."""
    checksum = record.checksum
    return checksum if isinstance(checksum, Damage) else None


def follows_well(data: memoryview, at: int, end: int) -> bool:
    """Return whether the batch at byte ``at`` begins at offset ``end`` or later.

    True also if its offset was not fetched. No checksum covers the offset of a batch, so this is
    the only check.
    """
    return len(data) < at + _LONG.size or _LONG.unpack_from(data, at)[0] >= end


def _end(data: memoryview, base: int, size: int) -> int | None:
    """Return the offset after a damaged batch of ``size`` bytes, if it can be told."""
    if size < _HEADER_BYTES or size > len(data):
        return None
    following = _sound(data[size:])
    if following is not None and following > base:
        return following
    (delta,), (count,) = _INT.unpack_from(data, _DELTA_AT), _INT.unpack_from(data, _COUNT_AT)
    # Both numbers may be damaged, but hardly in the same way.
    return base + count if count == delta + 1 and count >= 1 else None


def _sound(data: memoryview) -> int | None:
    """Return the offset of the batch at the beginning of ``data``, if it is whole and undamaged."""
    if len(data) < _HEADER_BYTES:
        return None
    base, size = _START.unpack_from(data)
    end = _START.size + size
    if not _HEADER_BYTES <= end <= len(data) or data[_MAGIC_AT] != _MAGIC:
        return None
    (crc,) = _CRC.unpack_from(data, _CRC_AT)
    return int(base) if calc_crc32c(bytes(data[_CHECKED_FROM:end])) == crc else None
