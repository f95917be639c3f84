"""Losses of a deleted topic: Kafka forgets the group's offsets with it, and our mark.

So each process remembers the unread records of every topic that it has seen behind a name. The
first owner of a partition of the successor writes them into its first commit, which outlives the
process; a process without a claim reports them for as long as it runs. The loss stays unknown if no
process ran from the deletion to the first claim: the rows in PostgreSQL are the only witness then.
"""

from __future__ import annotations

from collections import defaultdict

__all__ = ["TopicLosses"]


class TopicLosses:
    """Of one group in one topic name; partitions are noted by the id of the topic they are of.

    A figure is as old as the last look (a member's seconds, another's as often as it asks for
    progress), so records that were appended or acknowledged since make it too small or too large.
    """

    def __init__(self) -> None:
        self._unread: dict[int, dict[str, int]] = defaultdict(dict)

    def note(self, partition: int, topic_id: str, *, unread: int, lost: int) -> None:
        """Note the number of records that would be lost if the topic were deleted now."""
        self._unread[partition][topic_id] = unread + lost

    def before(self, partition: int, topic_id: str) -> int:
        """Return the number of records lost in the topics that ``topic_id`` has succeeded."""
        return max((n for of, n in self._unread[partition].items() if of != topic_id), default=0)
