"""The report of a process: the records that it lost, in pages.

A single report of up to 32 MB would block the new server. A page is a field of the rescue's hash,
``<member>.<number>``, with records in the order of the old log. The field ``<member>`` is written
last; it has the number of pages, and the first lost record of each partition.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec

from transport.redis.connection.connection import Command
from transport.redis.records import sort_key
from transport.redis.rescue.recent_appends import RecentAppend

__all__ = [
    "RescueReport",
    "field_of",
    "in_order",
    "of_last_day",
    "page_of",
    "pages",
    "parse_reports",
    "total_of",
]

_PAGE_BYTES = 1 << 20
_PAGE_RECORDS = 1000
_DAY_SECONDS = 86_400

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[RecentAppend]).decode


class RescueReport(msgspec.Struct, frozen=True):
    """The last field that a process writes."""

    pages: int
    first: dict[int, str]
    """By partition, the old offset of its first lost record."""

    @classmethod
    def of(cls, lost: Sequence[RecentAppend], pages: int) -> RescueReport:
        """Return the report of ``lost``, which are in order, in so many ``pages``."""
        first: dict[int, str] = {}
        for it in lost:
            first.setdefault(it.envelope.partition, it.offset)
        return cls(pages, first)

    @classmethod
    def read(cls, blob: bytes) -> RescueReport:
        """Read the report of another process.

        Raises:
            MsgspecError: ``blob`` is no report.
        """
        return msgspec.msgpack.decode(blob, type=cls)

    def packed(self) -> bytes:
        """Return the field's value."""
        return msgspec.msgpack.encode(self)


def parse_reports(
    members: Sequence[str], fields: Sequence[bytes | None]
) -> tuple[dict[str, RescueReport], list[str]]:
    """Return the reports by process, and the processes whose report can't be read.

    A missing field is left out: another leader has finished meanwhile.
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
    """Return the name of a page's field."""
    return f"{member}.{page}"


def pages(lost: Sequence[RecentAppend]) -> Iterator[bytes]:
    """Yield ``lost``, which are in order, as encoded pages."""
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
        MsgspecError: ``blob`` is no page.
    """
    return _decode(blob)


def in_order(lost: Sequence[RecentAppend]) -> list[RecentAppend]:
    """Return records in the order of the old log."""
    return sorted(lost, key=lambda it: sort_key(it.offset))


def of_last_day(key: str) -> Command:
    """Return the command that asks what rescues of the last day appended again, by its key."""
    return ("ZRANGEBYSCORE", key, round((time.time() - _DAY_SECONDS) * 1000), "+inf")


def total_of(members: Sequence[bytes]) -> int:
    """Return how many records were appended again, by the reply to that command."""
    return sum(int(member.rpartition(b":")[2]) for member in members)
