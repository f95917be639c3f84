"""The mark beside a committed offset: the owner's epoch, losses, and the last record read.

Kafka stores a short text with each committed offset, under the same check of the group's
generation. So the fencing epoch kept there can't be moved by a member that the group has expelled.
"""

from __future__ import annotations

import time
from hashlib import blake2b

import msgspec

from transport.contract import Record

__all__ = ["Anchor", "Mark", "SeenEnd", "anchor_of", "next_epoch", "read_mark"]

_DIGEST_BYTES = 8
_DIGESTED = 65_536  # bytes of a body: one is digested with each acknowledgement


class Anchor(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record that was read: at which offset, its ``time`` (milliseconds) and its digest.

    ``leader`` is the leader epoch (KIP-101) under which it was appended, or an earlier one; -1 is
    none known. A log that has another record at this offset, or none, has lost its tail since.
    """

    at: int
    time: int
    digest: str
    leader: int


class SeenEnd(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where the log was seen to end, while its leader epoch was ``leader``."""

    end: int
    leader: int


class Mark(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``epoch`` of the claim that committed; ``lost`` records in the partition's life so far.

    ``topic_id`` is the topic's that the offset is of: one that is committed late, just after the
    topic was deleted and made anew, means nothing in the new one. ``last`` is the last record that
    was acknowledged, and ``seen`` what the log was last seen to hold: both tell, later and to
    another process, whether the log still has what it had.
    """

    epoch: int = 0
    lost: int = 0
    topic_id: str = ""
    last: Anchor | None = None
    seen: SeenEnd | None = None

    def text(self) -> str:
        """Return it as the metadata of a commit."""
        return msgspec.json.encode(self).decode()


def anchor_of(record: Record, leader: int) -> Anchor:
    """Return the anchor of ``record``, which was appended under this leader epoch or a later one.

    The broker's time is part of it, so the same message appended twice gives two anchors.
    """
    digest = blake2b(record.key.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES)
    digest.update(b"\0%d\0" % len(record.body))
    digest.update(record.body[:_DIGESTED])
    return Anchor(int(record.offset), round(record.appended_at * 1000), digest.hexdigest(), leader)


def read_mark(metadata: str | None) -> Mark:
    """Return the mark in ``metadata``; an empty one where another tool moved the offset."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Mark)
    except msgspec.DecodeError:
        return Mark()


def next_epoch(previous: int) -> int:
    """Return an epoch above ``previous``, and above all that were given before the log was lost."""
    return max(previous + 1, time.time_ns() // 1_000_000)
