"""The losses with a deleted topic: Kafka deletes the group's offsets with it, and so our mark.

So each process remembers the number of unread records of every topic that it has seen under a name.
The first position that is published in the new topic keeps the loss in its mark, which outlives the
process. Other processes report it for as long as they run. If no process ran from the deletion to
that publication, the loss stays unknown; only the rows in PostgreSQL can tell.
"""

from __future__ import annotations

from collections import defaultdict

__all__ = ["TopicLosses"]


class TopicLosses:
    """Remembers the unread records of one group in all topics of one name, by partition and topic.

    A number is as old as the last publication or report of progress. Records that were appended or
    settled since then make it too small or too large.
    """

    def __init__(self) -> None:
        self._unread: dict[int, dict[str, int]] = defaultdict(dict)

    def note(self, partition: int, topic_id: str, *, unread: int, lost: int) -> None:
        """Note the number of records that would be lost if the topic were deleted now."""
        self._unread[partition][topic_id] = unread + lost

    def before(self, partition: int, topic_id: str) -> int:
        """Return the number of records lost with the topics before ``topic_id``."""
        return max((n for of, n in self._unread[partition].items() if of != topic_id), default=0)
