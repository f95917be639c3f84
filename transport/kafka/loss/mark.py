"""The mark of a committed offset: the owner's epoch, losses, and the last acknowledged record.

Kafka stores a short text with each committed offset, and checks the group's generation for both. So
a member that the group has expelled can't change the fencing epoch in the mark.
"""

from __future__ import annotations

import time
from hashlib import blake2b

import msgspec

from transport.contract import Record

__all__ = ["Anchor", "Mark", "SeenEnd", "anchor_of", "next_epoch", "now_ms", "read_mark"]

_DIGEST_BYTES = 8
_DIGESTED = 65_536  # the bytes of a body to digest, with each acknowledgement


class Anchor(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record that was read: its offset (``at``), its ``time`` in milliseconds, and its digest.

    ``leader`` is the leader epoch (KIP-101) under which it was appended, or an earlier one; -1 if
    unknown. If the log has another record at this offset, or none, it has lost its tail since.
    """

    at: int
    time: int
    digest: str
    leader: int


class SeenEnd(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An end of the log that was seen under the leader epoch ``leader``."""

    end: int
    leader: int


class Mark(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The text beside a committed offset.

    ``epoch`` is the epoch of the claim that committed, and ``lost`` the number of records that the
    partition has lost so far; ``lost_at`` is when that last rose, in milliseconds since the epoch
    (0: it never did). ``topic_id`` is the id of the offset's topic: a late commit, just
    after the topic was deleted and made anew, means nothing in the new topic. ``last`` is the last
    acknowledged record, and ``seen`` the last seen end of the log. With these two, another process
    can tell later whether the log has lost records.

    ``through`` is set instead of ``last`` if the offset was published without members: it is the
    published position, which PostgreSQL keeps.
    """

    epoch: int = 0
    lost: int = 0
    topic_id: str = ""
    last: Anchor | None = None
    seen: SeenEnd | None = None
    lost_at: int = 0
    through: int | None = None

    def text(self) -> str:
        """Return the mark as the metadata of a commit."""
        return msgspec.json.encode(self).decode()


def anchor_of(record: Record, leader: int) -> Anchor:
    """Return the anchor of ``record``, which was appended under this leader epoch or a later one.

    It includes the broker's time, so the same message appended twice has two different anchors.
    """
    digest = blake2b(record.key.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES)
    digest.update(b"\0%d\0" % len(record.body))
    digest.update(record.body[:_DIGESTED])
    return Anchor(int(record.offset), round(record.appended_at * 1000), digest.hexdigest(), leader)


def read_mark(metadata: str | None) -> Mark:
    """Return the mark in ``metadata``; an empty one if another tool moved the offset."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Mark)
    except msgspec.DecodeError:
        return Mark()


def next_epoch(previous: int) -> int:
    """Return an epoch above ``previous``, and above all epochs given before a log was lost.

    It is the time in milliseconds, if that is higher.
    """
    return max(previous + 1, now_ms())


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
