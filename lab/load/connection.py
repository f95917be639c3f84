"""An HTTP/1.1 connection that parses only the status and the end of an answer."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Self

__all__ = ["HttpAnswer", "LoadConnection"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_READ_AT_ONCE = 1 << 14  # bytes; each read allocates them: 256 KB cost more than the whole request


class HttpAnswer:
    """An answer, parsed lazily: a generator needs only the status."""

    def __init__(self, data: bytes, body_at: int) -> None:
        self._data = data
        self._body_at = body_at

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self._data[9:12])

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The header fields, their names in lower case."""
        lines = self._data[: self._body_at].decode("latin-1").split("\r\n")[1:]
        fields = (line.partition(":") for line in lines if line)
        return {name.lower(): value.strip() for name, _, value in fields}

    @property
    def body(self) -> bytes:
        """The body's bytes."""
        return self._data[self._body_at :]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


Answered = Callable[["LoadConnection", HttpAnswer | None], None]


class LoadConnection:
    """Sends one request at a time and calls back with its answer.

    It uses a plain socket on the event loop: with asyncio's transport and protocol, a request costs
    three times as much CPU time.

    Args:
        connected: The connected socket.
        answered: Called with this connection and the answer; with ``None`` if the connection broke
            before the answer came.
    """

    def __init__(
        self,
        connected: socket.socket,
        answered: Callable[[LoadConnection, HttpAnswer | None], None],
    ) -> None:
        self._socket = connected
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._unsent = memoryview(b"")
        self.busy = False
        self.open = True
        self.number = -1
        self.due = 0.0
        self._loop.add_reader(connected, self._readable)

    @classmethod
    async def to(cls, address: tuple[str, int], answered: Answered) -> Self:
        """Connect to ``address`` (host, port).

        Raises:
            OSError: no server listens there.
        """
        loop = asyncio.get_running_loop()
        host, port = address
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        made = socket.socket(found[0][0], socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(made, found[0][4])
        except BaseException:
            made.close()
            raise
        return cls(made, answered)

    def send(self, request: bytes) -> None:
        """Write one request. Call it only after the last one was answered."""
        self.busy = True
        try:
            sent = self._socket.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the socket is readable now, and the read will find it broken
        if sent < len(request):
            self._unsent = memoryview(request)[sent:]
            self._loop.add_writer(self._socket, self._writable)

    def close(self) -> None:
        """Close the connection, without a callback."""
        self.busy = False
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        if self._rest:
            data = self._rest + data
        head = data.find(_HEAD_END)
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if length is not None and len(data) >= head + 4 + int(length[1]):
            whole = data
        elif length is None and head >= 0 and _CHUNKED.search(data, 0, head + 2):
            body = _joined(data, head + 4)
            whole = b"" if body is None else data[: head + 4] + body
        else:
            whole = b""
        if not whole:
            self._rest = data
            return
        self._rest = b""
        self.busy = False
        self._answered(self, HttpAnswer(whole, head + 4))

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")  # the next read will find the socket broken
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _ended(self) -> None:
        """Handle the end of the stream, which also ends an answer without a length or chunks."""
        was_busy, rest = self.busy, self._rest
        self.close()
        if was_busy:
            head = rest.find(_HEAD_END)
            whole = head >= 0 and not any(
                field.search(rest, 0, head + 2) for field in (_LENGTH, _CHUNKED)
            )
            self._answered(self, HttpAnswer(rest, head + 4) if whole else None)


def _joined(data: bytes, at: int) -> bytes | None:
    """Return the chunks that begin at ``at``, joined; ``None`` while the last is missing.

    Source: RFC 9112, section 7.1. Trailer fields are not expected.
    """
    chunks: list[bytes] = []
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line_end].partition(b";")[0], 16)
        chunk_end = line_end + 2 + size
        if len(data) < chunk_end + 2:
            return None
        if not size:
            return b"".join(chunks)
        chunks.append(data[line_end + 2 : chunk_end])
        at = chunk_end + 2
    return None
