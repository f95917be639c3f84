"""Input and result of the writer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from transport.message.envelope import Message, Receipt

__all__ = ["Fence", "FencedBatch", "PositionedEvent", "Written"]


class PositionedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event and where it stands in its log. ``offset`` is empty for the direct ingress.

    ``size`` is how many bytes its body has in the log (0 for the direct ingress). ``fingerprint``
    is the message's, where it was computed already.
    """

    event: Message | Receipt
    transport: str
    partition: int
    offset: str
    trace_id: str | None
    attempts: int = 1
    size: int = 0
    fingerprint: str = ""


class Fence(msgspec.Struct, gc=False):
    """The right to write one partition of one log, until a higher epoch is taken.

    ``through`` is the offset up to which the partition is settled in PostgreSQL, as its owner left
    it; empty before the first record, ``None`` where nothing is known. What is written moves it,
    unless it ``keeps`` none: a standby acknowledges what others persisted. ``place`` is where
    PostgreSQL has the position now (``persistence.store.positions``). ``is_first``: PostgreSQL knew
    of no owner of the partition before this one, nor of any of another log's.
    """

    transport: str
    partition: int
    epoch: int
    through: str | None = None
    place: str | None = None
    keeps: bool = True
    is_first: bool = False


class FencedBatch(msgspec.Struct, frozen=True):
    """Records of one partition, in the order of the log, and the right to write them."""

    records: Sequence[PositionedEvent]
    fence: Fence


class Written(msgspec.Struct):
    """Result of a batch: indexes into it, ascending, each in exactly one list."""

    persisted: list[int]
    """New rows."""
    duplicates: list[int]
    """The same key and body (or the same receipt) was there already; nothing written."""
    conflicts: list[int]
    """The same key with another body; the first stays (promise 5)."""
