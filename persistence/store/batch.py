"""Input and result of the writer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from transport.message.envelope import Message, Receipt

__all__ = ["Fence", "FencedBatch", "PositionedEvent", "Written"]


class PositionedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event with its position in the log. ``offset`` is empty for the direct ingress.

    ``size`` is the length of its body in the log, in bytes (0 for the direct ingress).
    ``fingerprint`` is the message's; empty if nobody has computed it yet.
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
    """The right to write one partition of one log, until an owner with a higher epoch takes it.

    ``through`` is the partition's position, as this owner left it: PostgreSQL has the outcome of
    every record up to this offset. It is empty before the first record. Each write moves it.
    ``place`` is the current location of the position's row (``persistence.store.positions``).
    ``chain`` is the version of the chain by which this owner may insert; 0 if there is none. While
    ``stays`` is true, writes leave the position where it is: a record after it becomes a dead
    letter, which is not durable yet.
    """

    transport: str
    partition: int
    epoch: int
    through: str = ""
    place: str = ""
    chain: int = 0
    stays: bool = False


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
