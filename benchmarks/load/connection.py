"""One HTTP/1.1 connection that parses no more of an answer than its status and length."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

__all__ = ["Connection"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_READ_AT_ONCE = 1 << 14  # each read allocates it: 256 KB cost more than all the rest of a request


class Connection:
    """Sends one request at a time and calls back with the status of its answer.

    ``answered(connection, status)`` gets 0 when the connection broke before the answer came.
    A plain socket: a request takes some 9 us of the processor so, and 10 to 11 by an event loop.
    """

    def __init__(
        self,
        selector: BaseSelector,
        address: tuple[str, int],
        answered: Callable[[Connection, int], None],
    ) -> None:
        self._selector = selector
        self._answered = answered
        self._rest = b""
        self._unsent = memoryview(b"")
        self.busy = False
        self.open = True
        self.number = -1
        self.due = 0.0
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        selector.register(self._socket, EVENT_READ, self.ready)

    def send(self, request: bytes) -> None:
        """Write one request. Only when the last one has been answered."""
        self.busy = True
        try:
            sent = self._socket.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the socket is readable now, and what is read finds it broken
        if sent < len(request):
            self._unsent = memoryview(request)[sent:]
            self._selector.modify(self._socket, EVENT_READ | EVENT_WRITE, self.ready)

    def close(self) -> None:
        """Drop the connection without a callback."""
        self.busy = False
        if self.open:
            self.open = False
            self._selector.unregister(self._socket)
            self._socket.close()

    def ready(self) -> None:
        """Read what has come, and write what had no room. What the selector has to call."""
        if not self.open:
            return  # closed by another's callback, in the same turn
        if self._unsent:
            self._send_rest()
        try:
            data = self._socket.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._broken()
            return
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

    def _send_rest(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")  # the read that follows finds it broken
        if not self._unsent:
            self._selector.modify(self._socket, EVENT_READ, self.ready)

    def _broken(self) -> None:
        was_busy = self.busy
        self._rest = b""
        self.close()
        if was_busy:
            self._answered(self, 0)
