"""The mark of a published offset: the losses so far, and the end of the log that was seen.

Kafka stores a short text with each committed offset.
"""

from __future__ import annotations

import time

import msgspec

__all__ = ["Mark", "SeenEnd", "now_ms", "read_mark"]


class SeenEnd(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An end of the log that was seen under the leader epoch ``leader`` (KIP-101)."""

    end: int
    leader: int


class Mark(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The text beside a published offset.

    ``lost`` is the number of records that the partition has lost so far; ``lost_at`` is when that
    last rose, in milliseconds since the epoch (0: it never did). ``topic_id`` is the id of the
    offset's topic: the offset means nothing in a topic that was made again. ``seen`` is the last
    seen end of the log, at a time when the log still had every record before the offset. With it,
    another process can find out later whether the log has lost records.
    """

    lost: int = 0
    topic_id: str = ""
    seen: SeenEnd | None = None
    lost_at: int = 0

    def text(self) -> str:
        """Return the mark as the metadata of a commit."""
        return msgspec.json.encode(self).decode()


def read_mark(metadata: str | None) -> Mark:
    """Return the mark in ``metadata``; an empty one if another tool moved the offset."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Mark)
    except msgspec.DecodeError:
        return Mark()


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
