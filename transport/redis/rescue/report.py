"""The records that a process reports as lost, in pages: 32 MB in one would block the new server.

A page is a field of the rescue's hash, ``<member>.<number>``, with records in the order of the old
log. The field ``<member>`` is written last: how many pages there are, and the first record of each
partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from transport.redis.records import sort_key
from transport.redis.rescue.recent_appends import RecentAppend

__all__ = ["RescueReport", "field_of", "in_order", "page_of", "pages", "told_by"]

_PAGE_BYTES = 1 << 20
_PAGE_RECORDS = 1000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[RecentAppend]).decode


class RescueReport(msgspec.Struct, frozen=True):
    """The last field that a process writes."""

    pages: int
    first: dict[int, str]
    """By partition, the old offset of its first record that is gone."""

    @classmethod
    def of(cls, lost: Sequence[RecentAppend], pages: int) -> RescueReport:
        """Return that of records in order."""
        first: dict[int, str] = {}
        for it in lost:
            first.setdefault(it.envelope.partition, it.offset)
        return cls(pages, first)

    @classmethod
    def read(cls, blob: bytes) -> RescueReport:
        """Read the report of another process.

        Raises:
            MsgspecError: it is no such field.
        """
        return msgspec.msgpack.decode(blob, type=cls)

    def packed(self) -> bytes:
        """Return the field's value."""
        return msgspec.msgpack.encode(self)


def told_by(
    members: Sequence[str], fields: Sequence[bytes | None]
) -> tuple[dict[str, RescueReport], list[str]]:
    """Return the reports by process, and the processes whose report can't be read.

    A field that is gone is left out: another process led meanwhile, and is done.
    """
    found: dict[str, RescueReport] = {}
    unreadable = []
    for member, blob in zip(members, fields, strict=True):
        if blob is None:
            continue
        try:
            found[member] = RescueReport.read(blob)
        except msgspec.MsgspecError:
            unreadable.append(member)
    return found, unreadable


def field_of(member: str, page: int) -> str:
    """Return the name of the field that has a page."""
    return f"{member}.{page}"


def pages(lost: Sequence[RecentAppend]) -> Iterator[bytes]:
    """Yield pages of records, which are in order."""
    some: list[RecentAppend] = []
    size = 0
    for it in lost:
        some.append(it)
        size += len(it.envelope.body)
        if size >= _PAGE_BYTES or len(some) == _PAGE_RECORDS:
            yield _encode(some)
            some, size = [], 0
    if some:
        yield _encode(some)


def page_of(blob: bytes) -> list[RecentAppend]:
    """Return the records of a page.

    Raises:
        MsgspecError: it is none.
    """
    return _decode(blob)


def in_order(lost: Sequence[RecentAppend]) -> list[RecentAppend]:
    """Return records in the order of the old log."""
    return sorted(lost, key=lambda it: sort_key(it.offset))
