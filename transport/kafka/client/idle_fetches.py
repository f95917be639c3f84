"""A patch of aiokafka: idle partitions in the answer to a fetch are skipped.

A client asks for all of its partitions each time, and the answer names all of them: aiokafka (0.14)
has no fetch sessions (KIP-227). It reads them field by field, and then handles them one by one. A
partition without records, error, aborted transaction or nearer replica only updates figures that
our code does not use, such as the high watermark.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

from aiokafka.protocol.fetch import FetchResponse_v11
from aiokafka.protocol.types import Array, Int32

__all__ = ["install"]

# The fields of a partition without aborted transactions: number, error, high watermark, last stable
# offset, log start offset, count of aborted transactions, preferred replica, size of its records.
_LAYOUT = struct.Struct(">ihqqqiii")
_ERROR = 1
_NULL = -1


class _BusyPartitions(Array):  # type: ignore[misc] # aiokafka is not typed
    """The partitions of a topic, without the idle ones."""

    def decode(self, data: BytesIO) -> list[Any] | None:
        count = Int32.decode(data)
        if count == _NULL:
            return None
        busy: list[Any] = []
        raw, at = data.getvalue(), data.tell()
        for _ in range(count):
            try:
                *head, aborted, replica, size = _LAYOUT.unpack_from(raw, at)
            except struct.error as early:
                raise ValueError("an answer ends within its partitions") from early
            if aborted > 0:
                data.seek(at)
                busy.append(self.array_of.decode(data))
                at = data.tell()
                continue
            begin = at + _LAYOUT.size
            at = begin + max(0, size)
            if at > len(raw):
                raise ValueError("an answer ends within its records")
            if size > 0 or head[_ERROR] or replica >= 0:
                records = raw[begin:at] if size >= 0 else None
                busy.append((*head, [] if aborted == 0 else None, replica, records))
        data.seek(at)
        return busy


def install() -> None:
    """Apply the patch to all consumers of this process; Kafka 2.3 and later send this version."""
    schema = FetchResponse_v11.SCHEMA
    topic = schema.fields[schema.names.index("topics")].array_of
    *others, partitions = topic.fields
    topic.fields = (*others, _BusyPartitions(partitions.array_of))
