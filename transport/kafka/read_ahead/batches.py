"""The heads of fetched record batches: leader epoch, end, and offsets that the log has lost.

Compaction removes records between others. An operator has to set a topic's ``cleanup.policy`` for
it, and when it is set back, only the missing offsets show the loss. A record does not show why
offsets before it are missing: markers of transactions and aborted records are not returned either.
But their batches are fetched, so the heads of all batches are compared.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["BatchHead", "batch_heads", "count_removed"]

# Offset, length, leader epoch, magic, attributes, last offset delta, number of records.
_HEAD, _LENGTH_ENDS = struct.Struct(">qiib4xhi30xi"), 12
_MAGIC, _OF_TRANSACTION = 2, 0x10


class BatchHead(NamedTuple):
    """A batch: its first offset, the offset after its last, and its leader's epoch.

    ``is_sparse``: it has fewer records than offsets.
    """

    base: int
    end: int
    epoch: int
    is_sparse: bool


def batch_heads(data: bytes) -> Iterator[BatchHead]:
    """Yield the head of each whole batch, up to one in an older format, or a damaged one."""
    at = 0
    while at + _HEAD.size <= len(data):
        base, length, epoch, magic, attributes, delta, count = _HEAD.unpack_from(data, at)
        if magic != _MAGIC or length < _HEAD.size - _LENGTH_ENDS:
            return
        is_sparse = count <= delta and not attributes & _OF_TRANSACTION
        yield BatchHead(base, base + delta + 1, epoch, is_sparse)
        at += _LENGTH_ENDS + length


def count_removed(data: bytes, start: int, end: int, present: Sequence[int]) -> int:
    """Return how many offsets from ``start`` on, below ``end``, the log has removed.

    ``present`` are the offsets of the batches' records, in order.
    """
    count = 0
    for first, last in _incomplete(data, start):
        stop = min(last, end)
        if first < stop:
            count += stop - first - (bisect_left(present, stop) - bisect_left(present, first))
    return count


def _incomplete(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield each range from ``start`` on that is missing between batches, or is a sparse batch."""
    for batch in batch_heads(data):
        if batch.base > start:
            yield start, batch.base
        if batch.is_sparse and batch.end > start:
            yield max(batch.base, start), batch.end
        start = max(start, batch.end)
