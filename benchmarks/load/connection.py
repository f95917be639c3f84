"""One HTTP/1.1 connection that parses no more of an answer than its status and length."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

__all__ = ["Connection"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Sends one request at a time and calls back with the status of its answer.

    ``answered(connection, status)`` gets 0 when the connection broke before the answer came.
    """

    def __init__(self, answered: Callable[[Connection, int], None]) -> None:
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.busy = False
        self.number = -1
        self.due = 0.0

    def send(self, request: bytes) -> None:
        """Write one request. Only when the last one has been answered."""
        self.busy = True
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        """Drop the connection without a callback."""
        self.busy = False
        if self._transport is not None:
            self._transport.abort()

    @property
    def open(self) -> bool:
        """Whether requests can be sent."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what requests are written to (asyncio's callback)."""
        # uvloop's transports only look like asyncio.Transport, so a check would fail.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Call back once an answer is whole (asyncio's callback)."""
        if self._rest:
            data = self._rest + data
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            self._rest = data
            return
        self._rest = b""
        self.busy = False
        self._answered(self, int(data[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Call back with 0 if an answer was due (asyncio's callback)."""
        self._transport = None
        self._rest = b""
        if self.busy:
            self.busy = False
            self._answered(self, 0)
