"""What this process has read of each partition: leader epochs, ends, and records that were gone.

The epoch of a position shows later whether the log still has the records before it (KIP-320), and
the end of what was read shows how many it lost.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.kafka.loss.mark import SeenEnd

__all__ = ["ReadLog"]

_MOST = 64  # of epochs, and of removals, by partition


class _From(NamedTuple):
    offset: int
    number: int


class ReadLog:
    """The leader epochs under which each partition was read, its ends, and removed offsets."""

    def __init__(self) -> None:
        self._epochs: dict[TopicPartition, deque[_From]] = defaultdict(lambda: deque(maxlen=_MOST))
        self._ends: dict[TopicPartition, dict[int, int]] = defaultdict(dict)
        self._topics: dict[str, str] = {}
        self._removed: dict[TopicPartition, deque[_From]] = defaultdict(lambda: deque(maxlen=_MOST))

    def begin(self, at: TopicPartition, epoch: int | None) -> None:
        """Note that a reader begins at a position whose record had this leader epoch, or a later.

        ``None``: it is unknown.
        """
        self._epochs.pop(at, None)
        if epoch is not None:
            self._epochs[at].append(_From(-1, epoch))

    def note(self, at: TopicPartition, offset: int, epoch: int) -> None:
        """Note the leader epoch of the records from ``offset`` on."""
        self._epochs[at].append(_From(offset, epoch))

    def epoch(self, at: TopicPartition, position: int) -> int | None:
        """Return the leader epoch of the record at ``position``, or an earlier one, if known."""
        known = [epoch for offset, epoch in self._epochs.get(at, ()) if offset <= position]
        return known[-1] if known else None

    def confirm(self, at: TopicPartition, position: int) -> None:
        """Note that the reader continued where the log was cut, and has settled ``position`` since.

        So later positions, too, are of the log as it is now.
        """
        epochs = self._epochs.get(at, deque())
        for index, (offset, epoch) in enumerate(epochs):
            epochs[index] = _From(min(offset, position), epoch)

    def note_end(self, at: TopicPartition, end: int, epoch: int) -> None:
        """Note that records below ``end`` were read under this leader epoch."""
        ends = self._ends[at]
        ends[epoch] = max(end, ends.get(epoch, 0))

    def seen(self, at: TopicPartition, mark: SeenEnd | None) -> SeenEnd | None:
        """Return the end that ``mark`` has, or a later one under its epoch that was read.

        Without a mark it is that of the first leader epoch that was read.
        """
        ends = self._ends.get(at, {})
        if mark is None:
            return SeenEnd(ends[min(ends)], min(ends)) if ends else None
        return SeenEnd(max(mark.end, ends.get(mark.leader, 0)), mark.leader)

    def forget_ends(self, at: TopicPartition, before: int) -> None:
        """Forget the ends under leader epochs below ``before``: a mark has a later one."""
        ends = self._ends.get(at, {})
        for epoch in [epoch for epoch in ends if epoch < before]:
            del ends[epoch]

    def note_topic(self, topic: str, topic_id: str) -> None:
        """Forget what was read of an earlier topic of this name."""
        if self._topics.setdefault(topic, topic_id) == topic_id:
            return
        self._topics[topic] = topic_id
        for kept in (self._epochs, self._ends, self._removed):
            for at in [at for at in kept if at.topic == topic]:
                del kept[at]

    def note_removed(self, at: TopicPartition, offset: int, count: int) -> None:
        """Note that ``count`` records below the one at ``offset`` can't be read any more."""
        self._removed[at].append(_From(offset, count))

    def removed(self, at: TopicPartition, position: int) -> int:
        """Return the number of removed records below a settled position."""
        return sum(count for offset, count in self._removed.get(at, ()) if offset <= position + 1)

    def forget_removed(self, at: TopicPartition, position: int) -> None:
        """Forget the removed records below a settled position: the group's mark counts them."""
        removed = self._removed.get(at)
        while removed and removed[0].offset <= position + 1:
            removed.popleft()
