"""The request parser: it splits a connection's bytes into heads, pieces of bodies, and ends.

It returns one event at a time, and only when asked. So requests that wait for an answer before
theirs are held as bytes, and not parsed.
"""

from __future__ import annotations

from typing import Final, Literal

from ingress.http1.bounds import Bounds
from ingress.http1.chunks import Chunks
from ingress.http1.request_head import (
    CHUNKED,
    RequestHead,
    check_start,
    parse,
    too_large,
    too_long,
)

__all__ = ["END", "Event", "RequestParser", "Stage"]


class _End:
    """The event that a request is complete."""


END: Final = _End()
Event = RequestHead | bytes | _End | None
"""A head, a piece of its body, or the end of the request. ``None``: more bytes are needed."""

Stage = Literal["between", "head", "body"]

_HEAD_END = b"\r\n\r\n"
_CRLF = b"\r\n"
_REST_OF_LINE = 48  # bytes of a request line beside the target: method, version, spaces


class RequestParser:
    """Splits the bytes of one connection into events."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._buffer = bytearray()
        self._looked_at = 0  # bytes of an incomplete head that were checked already
        self._empty_line = False  # an empty line came before this head
        self._body: Chunks | None = None
        self._left = 0
        self._in_body = False
        self._piece = b""  # a piece of the body, taken out of the buffer and not returned yet

    def receive(self, data: bytes) -> None:
        """Buffer bytes; ``next`` parses them."""
        self._buffer += data

    @property
    def buffered(self) -> int:
        """The number of bytes that are not parsed yet."""
        return len(self._buffer)

    @property
    def stage(self) -> Stage:
        """The part of a request that the next bytes belong to; ``between``: none has begun."""
        if self._in_body:
            return "body"
        return "head" if self._buffer or self._empty_line else "between"

    def next(self) -> Event:
        """Return the next event of the stream.

        Raises:
            Problem: The bytes are not HTTP/1.1, can be read in two ways, or are past a limit.
                Nothing that follows on this connection may be answered.
        """
        if not self._in_body:
            return self._next_head() if self._buffer else None
        if self._piece:
            piece, self._piece = self._piece, b""
            return piece
        if self._body is not None:
            if not self._body.complete:
                piece = self._body.read(self._buffer)
                if piece or not self._body.complete:
                    return piece or None
        elif self._left:
            if not self._buffer:
                return None
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            return piece
        self._in_body = False
        self._body = None
        return END

    def whole_body(self) -> bytes | None:
        """Return the whole body of the head that ``next`` just returned, and end the request.

        Returns:
            ``None`` if a part of the body is missing; then ``next`` returns it in pieces.

        Raises:
            Problem: The body's chunks are malformed.
        """
        if self._body is not None:
            body = self._body.read(self._buffer)
            if not self._body.complete:
                self._piece = body
                return None
        elif len(self._buffer) < self._left:
            return None
        else:
            body = bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
        self._in_body = False
        self._body = None
        return body

    def _next_head(self) -> RequestHead | None:
        buffer = self._buffer
        # RFC 9112 section 2.2: some old clients send an empty line after a body.
        if not self._empty_line and buffer.startswith(_CRLF):
            del buffer[: len(_CRLF)]
            self._empty_line = True
        bounds = self._bounds
        end = buffer.find(_HEAD_END, max(self._looked_at - 3, 0), bounds.head_bytes)
        if end < 0:
            self._check_incomplete()
            return None
        data = bytes(buffer[: end + len(_HEAD_END)])
        del buffer[: len(data)]
        head = parse(data, bounds)
        self._looked_at = 0
        self._empty_line = False
        self._in_body = True
        self._left = head.length
        if head.length == CHUNKED:
            self._left = 0
            self._body = Chunks()
        return head

    def _check_incomplete(self) -> None:
        buffer, bounds = self._buffer, self._bounds
        if len(buffer) >= bounds.head_bytes:
            raise too_large(bounds)
        if buffer:
            check_start(buffer, self._looked_at)
        longest = bounds.target_bytes + _REST_OF_LINE
        if len(buffer) > longest and buffer.find(_CRLF, 0, longest) < 0:
            raise too_long(bounds)
        self._looked_at = len(buffer)
