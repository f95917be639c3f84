"""Compaction: offsets that a log has lost between others.

Somebody has to set a topic's ``cleanup.policy`` for it. When it is set back, only the missing
offsets tell of the loss. A record does not tell why offsets before it are missing: aiokafka hides
markers of transactions and aborted records too. So the fetched batches are looked through before.
"""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.structs import TopicPartition

__all__ = ["CompactedOffsets", "RemovedBefore"]

_FETCH = 1
# The head of a batch: offset, length, magic, attributes, last offset delta, number of records.
_HEAD, _LENGTH_ENDS = struct.Struct(">qi4xb4xhi30xi"), 12
_MAGIC, _OF_TRANSACTION = 2, 0x10


class RemovedBefore(NamedTuple):
    """``removed`` offsets right before the record at ``offset`` are gone."""

    offset: int
    removed: int


class CompactedOffsets:
    """Notes the removed offsets in the fetches of ``client``, which is not yet started."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._ranges: dict[TopicPartition, dict[int, int]] = defaultdict(dict)
        inner = client._client  # noqa: SLF001 - no public way
        send = inner.send

        async def noting(node_id: int, request: Any, **options: Any) -> Any:
            answer = await send(node_id, request, **options)
            if getattr(answer, "API_KEY", None) == _FETCH:
                self._look(request, answer)
            return answer

        inner.send = noting

    def take(
        self, at: TopicPartition, start: int, records: Sequence[ConsumerRecord]
    ) -> list[RemovedBefore]:
        """Return the removed offsets from ``start`` on, before each of ``records``; forget them."""
        ranges = deque(sorted(self._ranges.pop(at, {}).items()))
        found = []
        for record in records if ranges else ():
            count = 0
            while ranges and ranges[0][0] < record.offset:
                first, end = ranges[0]
                stop = min(end, record.offset)
                count += max(0, stop - max(first, start))
                start = max(start, stop)
                if end > record.offset:
                    break
                ranges.popleft()
            start = record.offset + 1
            if count:
                found.append(RemovedBefore(record.offset, count))
        if ranges:
            self._ranges[at] = dict(ranges)
        return found

    def forget(self, at: TopicPartition) -> None:
        """Forget a partition's offsets: a damaged batch may tell wrong ones."""
        self._ranges.pop(at, None)

    def _look(self, request: Any, answer: Any) -> None:
        starts: dict[tuple[str, int], int] = {}
        for topic, partitions in answer.topics:
            for partition, *_others, batches in partitions:
                if not batches:
                    continue
                starts = starts or {(t, p): start for t, of in request.topics for p, start, _ in of}
                for first, end in _removed(batches, starts[topic, partition]):
                    self._ranges[TopicPartition(topic, partition)][first] = end


def _removed(batches: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield each range from ``start`` on that lacks offsets: between batches, or within one."""
    at = 0
    while at + _HEAD.size <= len(batches):
        base, length, magic, attributes, delta, count = _HEAD.unpack_from(batches, at)
        if magic != _MAGIC or length < _HEAD.size - _LENGTH_ENDS:
            return
        if base > start:
            yield start, base
        end = base + delta + 1
        if count <= delta and not attributes & _OF_TRANSACTION:
            yield max(base, start), end  # retention may have removed the beginning of a batch
        start = max(start, end)
        at += _LENGTH_ENDS + length
