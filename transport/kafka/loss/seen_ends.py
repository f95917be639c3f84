"""The last seen end of each partition, with its leader epoch: it bounds the unread records.

A log can also lose unread records with its tail. Then the end that was seen is the only trace of
them. An end counts as seen under a leader epoch only if that epoch was found both before and after
it. Otherwise a broker that learns late of an ordinary election would make it look like a loss. So
an end is as old as one or two looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from transport.kafka.loss.identity import Leader
from transport.kafka.loss.mark import SeenEnd

__all__ = ["SeenEnds"]


class SeenEnds:
    """The last seen ends of the partitions of one topic that this process has claimed."""

    def __init__(self) -> None:
        self._confirmed: dict[int, SeenEnd] = {}
        self._looked: dict[int, SeenEnd] = {}

    def of(self, partition: int) -> SeenEnd | None:
        """Return the last end that counts as seen, if any."""
        return self._confirmed.get(partition)

    def look(self, ends: Mapping[int, int], leaders: Mapping[int, Leader]) -> Collection[int]:
        """Note ``leaders``, and the ``ends`` asked for after them; return changed partitions.

        A partition whose leader changed keeps its old end until that was compared with the log and
        ``forget`` is called.
        """
        changed = []
        for partition, leader in leaders.items():
            if partition not in ends:
                continue
            before = self._looked.get(partition)
            if before is not None and before.leader != leader.epoch:
                changed.append(partition)
                continue
            if before is not None:
                self._confirmed[partition] = before
            self._looked[partition] = SeenEnd(ends[partition], leader.epoch)
        return changed

    def forget(self, partition: int) -> None:
        """Forget the seen end of a partition; the next look notes a new one."""
        self._confirmed.pop(partition, None)
        self._looked.pop(partition, None)
