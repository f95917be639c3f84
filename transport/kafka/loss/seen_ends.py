"""The end of each partition as last seen, with its leader epoch: the bound of unread records.

Unread records can be lost with a log's tail too. The end that was seen is then the only trace of
them. An end counts as seen under a leader epoch once that epoch was found before and
after it: a broker that is slow to hear of an election must not make an ordinary one look like a
loss. So a figure is as old as one or two looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from transport.kafka.loss.identity import Leader
from transport.kafka.loss.mark import SeenEnd

__all__ = ["SeenEnds"]


class SeenEnds:
    """The ends of one topic's partitions as last seen, of those that this process has claimed."""

    def __init__(self) -> None:
        self._confirmed: dict[int, SeenEnd] = {}
        self._looked: dict[int, SeenEnd] = {}

    def of(self, partition: int) -> SeenEnd | None:
        """Return the last end that counts, if any."""
        return self._confirmed.get(partition)

    def look(self, ends: Mapping[int, int], leaders: Mapping[int, Leader]) -> Collection[int]:
        """Note the ``leaders``, and the ``ends`` found after them; return where a leader changed.

        There the old ends stay until they are compared, and ``forget`` is called.
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
        """Begin anew with a partition that lost what was seen of it."""
        self._confirmed.pop(partition, None)
        self._looked.pop(partition, None)
