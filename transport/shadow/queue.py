"""Copies that wait: one queue per partition of the shadow, each in order, all of them bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from transport.contract import Envelope
from transport.shadow.copies import Copy
from transport.shadow.observer import ShadowBacklog

__all__ = ["Queue"]

_SLACK = 64


class Queue:
    """At most ``records`` copies in a partition, and ``size`` bytes in all of them.

    A copy that is taken stays here, and counts, until it is removed: whatever happens to the
    sender, no copy is out of sight.
    """

    def __init__(self, partitions: int, *, records: int, size: int) -> None:
        self._partitions: list[deque[Copy]] = [deque() for _ in range(partitions)]
        self._all: deque[Copy] = deque()
        self._waiting: dict[str, Copy] = {}
        self._limit, self._limit_size = records, size
        self._counts = [0] * partitions
        self._total = 0
        self._size = 0
        self._turn = 0

    def __len__(self) -> int:
        return self._total

    def count(self, partition: int) -> int:
        """Return the number of waiting copies of ``partition``."""
        return self._counts[partition]

    def put(self, copy: Copy) -> bool:
        """Add ``copy`` at the end of its partition; ``False``, and not added, if that is full."""
        partition, size = copy.home, copy.size
        if self._counts[partition] >= self._limit or self._size + size > self._limit_size:
            return False
        copy.queued = True
        self._partitions[partition].append(copy)
        self._all.append(copy)
        self._counts[partition] += 1
        self._total += 1
        self._size += size
        if copy.remember:
            self._waiting[copy.envelope.message_id] = copy
        return True

    def waiting(self, envelope: Envelope) -> Copy | None:
        """Return the copy of this message, with this body, that waits; ``None`` if none does."""
        copy = self._waiting.get(envelope.message_id)
        if copy is None or copy.envelope.fingerprint != envelope.fingerprint:
            return None
        return copy

    def take(self, most: int, *, skip: Container[int] = ()) -> list[Copy]:
        """Return up to ``most`` copies, each partition's first ones in order.

        Either all of them are to be remembered or none is. The partitions take turns to be first;
        those in ``skip`` miss theirs.
        """
        taken: list[Copy] = []
        partitions = len(self._partitions)
        self._turn = (self._turn + 1) % partitions
        for step in range(partitions):
            partition = (self._turn + step) % partitions
            if partition in skip:
                continue
            for copy in self._partitions[partition]:
                if copy.done:
                    continue
                if len(taken) == most:
                    return taken
                if taken and taken[0].remember is not copy.remember:
                    break
                taken.append(copy)
        return taken

    def remove(self, copy: Copy) -> None:
        """Take ``copy`` out: it has been appended, or never will be."""
        if copy.done or not copy.queued:
            return
        copy.done = True
        self._counts[copy.home] -= 1
        self._total -= 1
        self._size -= copy.size
        if self._waiting.get(copy.envelope.message_id) is copy:
            del self._waiting[copy.envelope.message_id]
        _tidy(self._partitions[copy.home], self._counts[copy.home])
        _tidy(self._all, self._total)

    def all(self) -> list[Copy]:
        """Return every copy that waits, the oldest first."""
        return [copy for copy in self._all if not copy.done]

    def backlog(self) -> ShadowBacklog:
        """Return the count, the bytes and the age of the waiting copies."""
        return ShadowBacklog(self._total, self._size, self._all[0].since if self._all else 0.0)


def _tidy(queue: deque[Copy], waiting: int) -> None:
    """Drop removed copies: those at the front at once, the others once they are the most."""
    while queue and queue[0].done:
        queue.popleft()
    if len(queue) > 2 * waiting + _SLACK:
        left = [copy for copy in queue if not copy.done]
        queue.clear()
        queue.extend(left)
