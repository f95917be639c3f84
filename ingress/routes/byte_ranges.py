"""Which bytes a request asks for (RFC 9110, 14): all of them, one range, or none that there are."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ByteRange", "asked_range"]

# More than 18 digits are no length of anything, and int() of many is slow.
_ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


class ByteRange(NamedTuple):
    """The bytes from ``start`` to before ``end``. An empty one can't be satisfied."""

    start: int
    end: int


def asked_range(header: str | None, size: int) -> ByteRange | None:
    """Return the range that a ``Range`` header asks for, of content of ``size`` bytes.

    Returns:
        ``None`` where all is to be sent: without the header, with a unit or a form that is not
        known, and with several ranges, which a server may answer so.
    """
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or match[0].strip().endswith("=-"):
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
