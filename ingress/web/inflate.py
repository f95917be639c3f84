"""Compressed request bodies: ``gzip`` and ``deflate`` (RFC 9110, section 8.4.1).

A few compressed bytes can stand for gigabytes, and a body can consist of thousands of empty gzip
members. So a body is inflated in small steps, with limits of bytes in and bytes out, and refused at
the step that passes the body's limit. Other codings are refused as RFC 7694 says: with 415 and the
supported codings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from ingress.schema.problems import MALFORMED, MEDIA, Problem

__all__ = ["ACCEPTED", "Inflater", "coding_of"]

ACCEPTED = "gzip, deflate"
_GZIP = 16 + zlib.MAX_WBITS
_WINDOWS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": zlib.MAX_WBITS}
_NONE = {b"", b"identity"}
# Bytes of a step. At the end of a gzip member zlib copies the rest of the step: steps are short.
_IN = 4 * 1024
_OUT = 64 * 1024


def coding_of(headers: dict[bytes, bytes]) -> bytes | None:
    """Return the coding that the body is compressed with, or ``None`` if it is not compressed.

    Raises:
        Problem: The coding is not supported, or there are several (415).
    """
    given = headers.get(b"content-encoding", b"").lower()
    codings = [coding for part in given.split(b",") if (coding := part.strip()) not in _NONE]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _WINDOWS:
        shown = given[:80].decode("latin-1")
        raise Problem(
            MEDIA,
            f"The Content-Encoding is {shown}; send one of {ACCEPTED}, once, or none.",
            headers={"Accept-Encoding": ACCEPTED},
        )
    return codings[0]


class Inflater:
    """Inflates one body.

    Args:
        coding: A coding that ``coding_of`` returned.
        grown: Called at each step with the number of bytes that it adds; may raise to refuse them.
    """

    def __init__(self, coding: bytes, grown: Callable[[int], None]) -> None:
        self._window = _WINDOWS[coding]
        self._grown = grown
        self._stream: Any = None  # the decompressor of the current member
        self._members = 0

    def take(self, data: bytes) -> Iterator[bytes | None]:
        """Inflate ``data``; yield its bytes piece by piece, or ``None`` for a step without any.

        Raises:
            Problem: ``data`` is not in this coding (400).
        """
        for at in range(0, len(data), _IN):
            yield from self._step(data[at : at + _IN])

    def end(self) -> None:
        """Refuse a body that is not complete.

        Raises:
            Problem: The compressed body is cut off (400).
        """
        if self._stream is not None or not self._members:
            raise _broken("it is incomplete")

    def _step(self, left: bytes) -> Iterator[bytes | None]:
        full = False  # the output limit was reached: more may come out without further input
        while left or full:
            if self._stream is None:
                if self._members and self._window != _GZIP:
                    raise _broken("bytes follow its end")
                self._stream = zlib.decompressobj(self._window)
            try:
                piece = self._stream.decompress(left, _OUT)
            except zlib.error as error:
                raise _broken(str(error).rpartition(": ")[2]) from error
            self._grown(len(piece))
            yield piece or None
            if self._stream.eof:
                left, full = self._stream.unused_data, False
                self._stream = None
                self._members += 1
            else:
                left, full = self._stream.unconsumed_tail, len(piece) == _OUT


def _broken(why: str) -> Problem:
    return Problem(
        MALFORMED,
        f"The body is not what its Content-Encoding says: {why}.",
    )
