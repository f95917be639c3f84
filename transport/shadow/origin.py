"""The origin of a copy: how the copy was made, and the place of its original.

The headers of a copy say it (see ``transport.message.envelope``). Originals and records of foreign
producers have no such headers.
"""

from __future__ import annotations

import msgspec

from transport.contract import Record
from transport.message.envelope import HEADER_MIRROR_OF, HEADER_MIRROR_PARTITION, HEADER_SHADOW_MODE

__all__ = ["Origin", "is_original", "is_sync_copy", "origin_of"]

_SYNC = b"sync"
_DIGITS = 9


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The place of a copy's original: its log, its partition, and its offset."""

    transport: str
    partition: int
    offset: str


def origin_of(record: Record) -> Origin | None:
    """Return the place of the original of ``record``; ``None`` if the headers don't name it."""
    header = record.headers.get(HEADER_MIRROR_OF)
    if header is None:
        return None
    transport, _, offset = header.decode("utf-8", "replace").partition(":")
    if not transport or not offset:
        return None
    return Origin(transport, _partition(record), offset)


def _partition(record: Record) -> int:
    """Return the original's partition, which a copy names if its own is another one."""
    header = record.headers.get(HEADER_MIRROR_PARTITION, b"")
    return int(header) if header.isdigit() and len(header) <= _DIGITS else record.partition


def is_original(record: Record) -> bool:
    """Return whether ``record`` is no copy of a record in another log."""
    return HEADER_SHADOW_MODE not in record.headers


def is_sync_copy(record: Record) -> bool:
    """Return whether ``record`` is a copy that was made before its message was acknowledged."""
    return record.headers.get(HEADER_SHADOW_MODE) == _SYNC
