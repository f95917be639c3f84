"""The bounded queue of waiting copies, in order within each partition of the shadow."""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from transport.contract import Envelope
from transport.shadow.copies import Copy
from transport.shadow.observer import ShadowBacklog

__all__ = ["Queue"]

_SLACK = 64


class Queue:
    """A queue of at most ``records`` copies per partition, and ``size`` bytes in all.

    A taken copy stays in the queue, and counts, until it is removed. So no copy is forgotten
    if the sender fails.
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
        """Add ``copy`` at the end of its partition; return ``False`` if there is no room."""
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
        """Return up to ``most`` copies: the first ones of each partition, in order.

        All of them have the same ``remember``. The partitions take turns to be first; those in
        ``skip`` are left out.
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
        """Remove ``copy``: it was appended, or never will be."""
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
        """Return every waiting copy, the oldest first."""
        return [copy for copy in self._all if not copy.done]

    def backlog(self) -> ShadowBacklog:
        """Return the count, the bytes and the age of the waiting copies."""
        return ShadowBacklog(self._total, self._size, self._all[0].since if self._all else 0.0)


def _tidy(queue: deque[Copy], waiting: int) -> None:
    """Drop removed copies: at the front at once, others once they outnumber the waiting ones."""
    while queue and queue[0].done:
        queue.popleft()
    if len(queue) > 2 * waiting + _SLACK:
        left = [copy for copy in queue if not copy.done]
        queue.clear()
        queue.extend(left)
