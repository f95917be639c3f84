"""What we keep beside a committed offset: who may write, and what was lost.

Kafka stores a short text with each committed offset, under the same check of the group's
generation. So the fencing epoch kept there can't be moved by a member that the group has expelled.
"""

from __future__ import annotations

import time

import msgspec

__all__ = ["Mark", "next_epoch", "read_mark"]


class Mark(msgspec.Struct, frozen=True, gc=False):
    """``epoch`` of the claim that committed; ``lost`` records in the partition's life so far.

    ``topic_id`` is the topic's that the offset is of: one that is committed late, just after the
    topic was deleted and made anew, means nothing in the new one.
    """

    epoch: int = 0
    lost: int = 0
    topic_id: str = ""

    def text(self) -> str:
        """Return it as the metadata of a commit."""
        return msgspec.json.encode(self).decode()


def read_mark(metadata: str | None) -> Mark:
    """Return the mark in ``metadata``; an empty one where another tool moved the offset."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Mark)
    except msgspec.DecodeError:
        return Mark()


def next_epoch(previous: int) -> int:
    """Return an epoch above ``previous``, and above all that were given before the log was lost."""
    return max(previous + 1, time.time_ns() // 1_000_000)
