"""Split a stream of bytes into requests.

It gives one event at a time, and only when asked. So a connection never holds parsed requests that
wait for their answer, only their bytes.
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
    """A request is complete."""


END: Final = _End()
Event = RequestHead | bytes | _End | None
"""A head, a piece of its body, the end of the request; ``None``: more bytes are needed."""

Stage = Literal["between", "head", "body"]

_HEAD_END = b"\r\n\r\n"
_CRLF = b"\r\n"
_REST_OF_LINE = 48  # method and version


class RequestParser:
    """The requests of one connection."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._buffer = bytearray()
        self._looked_at = 0  # bytes of a head that was not complete yet
        self._empty_line = False  # one came before this head
        self._body: Chunks | None = None
        self._left = 0
        self._in_body = False
        self._piece = b""  # of the body, taken out of the buffer and not given yet

    def receive(self, data: bytes) -> None:
        """Take bytes, to be made events of when they are asked for."""
        self._buffer += data

    @property
    def buffered(self) -> int:
        """How many bytes are not yet events."""
        return len(self._buffer)

    @property
    def stage(self) -> Stage:
        """Part that the next bytes belong to; ``between``: a request that has not begun."""
        if self._in_body:
            return "body"
        return "head" if self._buffer or self._empty_line else "between"

    def next(self) -> Event:
        """Return the next event of the stream.

        Raises:
            Problem: it is not HTTP/1.1, can be read in two ways, or is past a limit. Nothing that
                follows on this connection may be answered.
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
        """Return the body of the head that was just given, and end its request.

        Returns:
            ``None`` if a part of the body is missing; ``next`` gives it in pieces then.

        Raises:
            Problem: The body's chunks are not chunks.
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
