"""The parser of ``Range`` headers (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ByteRange", "asked_range"]

# No content is so long that it needs more than 18 digits, and int() of many digits is slow.
_ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


class ByteRange(NamedTuple):
    """The bytes from ``start`` up to, and without, ``end``. An empty range can't be satisfied."""

    start: int
    end: int


def asked_range(header: str | None, size: int) -> ByteRange | None:
    """Return the range that a ``Range`` header asks for.

    Args:
        header: The header's value, if the request has one.
        size: The content's size in bytes.

    Returns:
        ``None`` if the whole content is to be sent: there is no header, its unit or form is
        unknown, or it has several ranges (which a server may ignore).
    """
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return None
    first, last = match[1], match[2]
    if not first:
        return ByteRange(max(0, size - int(last)), size)
    start = int(first)
    if not last:
        return ByteRange(min(start, size), size)
    if int(last) < start:
        return None
    end = min(int(last) + 1, size)
    return ByteRange(min(start, end), end)
