"""A strict reader of chunked bodies (RFC 9112, section 7.1).

Chunk extensions and trailers are skipped. Each has a limit of its own, because their bytes count
towards no body.
"""

from __future__ import annotations

import re

from ingress.schema.problems import MALFORMED_REQUEST, Problem

__all__ = ["Chunks"]

# All repeats are possessive, so that text that does not match is refused in linear time.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_SIZE_START = re.compile(rb"(?:[0-9A-Fa-f]{1,15}+(?:;[\t\x20-\x7e\x80-\xff]*+)?\r?)?")
_LONGEST_SIZE = 256
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?![\n]|\Z)")
_LONGEST_TRAILERS = 8 * 1024
_AT_ONCE = 500  # chunks in one turn of the event loop; the rest wait for a later turn
_CRLF = b"\r\n"


class Chunks:
    """Reads one chunked body."""

    def __init__(self) -> None:
        self._left = 0  # bytes of the current chunk's data to come
        self._in_chunk = False  # the chunk's data, or the line break after it, is to come
        self._last = False  # the last chunk has come; only trailers follow
        self.complete = False
        """Whether the whole body was read."""

    def read(self, buffer: bytearray) -> bytes:
        """Take chunks out of ``buffer`` and return their data.

        Returns:
            Empty if more bytes are needed, or if the body is complete.

        Raises:
            Problem: The bytes are not well-formed chunks, or extensions or trailers are too long.
        """
        pieces: list[bytes] = []
        at = 0
        while len(pieces) < _AT_ONCE:
            if self._last:
                at = self._trailers(buffer, at)
                break
            if not self._in_chunk:
                after = self._size(buffer, at)
                if after is None:
                    break
                at = after
                continue
            if self._left:
                piece = bytes(buffer[at : at + self._left])
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
            if not self._left:
                end = bytes(buffer[at : at + 2])
                if not _CRLF.startswith(end):
                    raise _refused("A chunk is longer than its size says, or its size is wrong.")
                if len(end) < len(_CRLF):
                    break
                at += 2
                self._in_chunk = False
        del buffer[:at]
        return b"".join(pieces)

    def _size(self, buffer: bytearray, at: int) -> int | None:
        found = _SIZE.match(buffer, at)
        if found is None:
            rest = bytes(buffer[at : at + _LONGEST_SIZE])
            if len(rest) == _LONGEST_SIZE or not _SIZE_START.fullmatch(rest):
                raise _refused("A chunk's size is not a hexadecimal number in a line of its own.")
            return None
        if found.end() - at > _LONGEST_SIZE:
            raise _refused("A chunk's extensions are too long.")
        self._left = int(found[1], 16)
        if self._left:
            self._in_chunk = True
        else:
            self._last = True
        return found.end()

    def _trailers(self, buffer: bytearray, at: int) -> int:
        found = _TRAILERS.match(buffer, at)
        if found is None:
            rest = bytes(buffer[at : at + _LONGEST_TRAILERS])
            whole = b"\r\n\r\n" in rest or rest.startswith(_CRLF)
            if whole or len(rest) == _LONGEST_TRAILERS or _FORBIDDEN.search(rest):
                raise _refused("What follows the last chunk is not a list of trailers.")
            return at
        if found.end() - at > _LONGEST_TRAILERS:
            raise _refused("The trailers are too long.")
        self.complete = True
        return found.end()


def _refused(detail: str) -> Problem:
    return Problem(MALFORMED_REQUEST, detail, headers={"Connection": "close"})
