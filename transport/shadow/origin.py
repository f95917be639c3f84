"""Tell copies from originals: how a copy was made, and where its original stands.

A copy says so itself, in its headers (see ``transport.message.envelope``). A foreign producer's
record says nothing, and neither does an original.
"""

from __future__ import annotations

import msgspec

from transport.contract import Record
from transport.message.envelope import HEADER_MIRROR_OF, HEADER_MIRROR_PARTITION, HEADER_SHADOW_MODE

__all__ = ["Origin", "is_original", "is_sync_copy", "origin_of"]

_SYNC = b"sync"
_DIGITS = 9


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where the original of a copy stands: its log, its partition there, and its offset."""

    transport: str
    partition: int
    offset: str


def origin_of(record: Record) -> Origin | None:
    """Return the place of the original of ``record``; ``None`` if it does not say."""
    header = record.headers.get(HEADER_MIRROR_OF)
    if header is None:
        return None
    transport, _, offset = header.decode("utf-8", "replace").partition(":")
    if not transport or not offset:
        return None
    return Origin(transport, _partition(record), offset)


def _partition(record: Record) -> int:
    """Return the original's partition, which a copy names where it is not its own."""
    header = record.headers.get(HEADER_MIRROR_PARTITION, b"")
    return int(header) if header.isdigit() and len(header) <= _DIGITS else record.partition


def is_original(record: Record) -> bool:
    """Return whether ``record`` was appended for itself: no log is known to have another of it."""
    return HEADER_SHADOW_MODE not in record.headers


def is_sync_copy(record: Record) -> bool:
    """Return whether ``record`` is a copy that was made before its message was acknowledged."""
    return record.headers.get(HEADER_SHADOW_MODE) == _SYNC
