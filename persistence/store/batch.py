"""Input and result of the writer."""

from __future__ import annotations

import msgspec

from transport.envelope import Message, Receipt

__all__ = ["Fence", "PositionedEvent", "Written"]


class PositionedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event and where it stands in its log. ``offset`` is empty for the direct ingress."""

    event: Message | Receipt
    transport: str
    partition: int
    offset: str
    trace_id: str | None
    attempts: int = 1


class Fence(msgspec.Struct, frozen=True, gc=False):
    """The right to write one partition of one log, until a higher epoch is taken."""

    transport: str
    partition: int
    epoch: int


class Written(msgspec.Struct):
    """Result of a batch: indexes into it, ascending, each in exactly one list."""

    persisted: list[int]
    """New rows."""
    duplicates: list[int]
    """The same key and body (or the same receipt) was there already; nothing written."""
    conflicts: list[int]
    """The same key with another body; the first stays (promise 5)."""
