"""Tell copies from originals: how a copy was made, and where its original stands.

A copy says so itself, in two headers (see ``transport.envelope``). A foreign producer's record
says nothing, and neither does an original.
"""

from __future__ import annotations

import msgspec

from transport.contract import Record
from transport.envelope import HEADER_MIRROR_OF, HEADER_SHADOW_MODE

__all__ = ["Origin", "is_original", "is_sync_copy", "origin_of"]

_SYNC = b"sync"


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where the original of a copy stands: its log and its offset (the partition is the same)."""

    transport: str
    offset: str


def origin_of(record: Record) -> Origin | None:
    """Return the place of the original of ``record``; ``None`` if it does not say."""
    header = record.headers.get(HEADER_MIRROR_OF)
    if header is None:
        return None
    transport, _, offset = header.decode("utf-8", "replace").partition(":")
    return Origin(transport, offset) if transport and offset else None


def is_original(record: Record) -> bool:
    """Return whether ``record`` was appended for itself: no log is known to have another of it."""
    return HEADER_SHADOW_MODE not in record.headers


def is_sync_copy(record: Record) -> bool:
    """Return whether ``record`` is a copy that was made before its message was acknowledged."""
    return record.headers.get(HEADER_SHADOW_MODE) == _SYNC
