"""The writing side of a connection. It detects clients that read slowly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ingress.http1.kernel import unsent

__all__ = ["AnswerWriter"]

_SLOWEST = 1024  # bytes a second: after the time limit, a client that reads slower is stuck
_BUFFER = 4096  # unread bytes that are not counted: nearly every answer to a POST is shorter


class AnswerWriter:
    """Writes answers to one connection's transport, and measures how fast the client reads.

    Args:
        transport: Pauses writing as soon as it buffers more than 4 KiB.
        changed: Called when ``held`` has changed.
    """

    __slots__ = ("_changed", "_transport", "_unread", "_writable", "_written", "held", "paused")

    def __init__(self, transport: asyncio.Transport, changed: Callable[[], None]) -> None:
        self._transport = transport
        self._changed = changed
        transport.set_write_buffer_limits(high=_BUFFER)
        self._written = 0
        # The time since which some bytes were always unread, and the bytes read until then.
        self._unread: tuple[float, int] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.paused = False
        """Whether the transport's buffer is full."""
        self.held = 0
        """Bytes written since the buffer is full. The transport keeps each of these writes whole
        until its last byte is sent."""

    def write(self, data: bytes) -> None:
        """Send bytes. The transport buffers those that the kernel does not take."""
        self._written += len(data)
        self._transport.write(data)
        if self.paused:
            self.held += len(data)
            self._changed()

    async def drain(self) -> None:
        """Wait until the buffer has room again, or the connection is lost."""
        await self._writable.wait()

    def pause(self) -> None:
        """Record that the transport's buffer is full."""
        self.paused = True
        self._writable.clear()

    def resume(self) -> None:
        """Record that the buffer has room again, or that the connection is lost."""
        self.paused = False
        self._unread = None  # the client read what was buffered
        self._writable.set()
        if self.held:
            self.held = 0
            self._changed()

    @property
    def is_unread(self) -> bool:
        """Whether the last call of ``is_stuck`` found bytes that the client has not read."""
        return self._unread is not None

    def is_stuck(self, now: float, seconds: float) -> bool:
        """Return whether an answer waited ``seconds`` or more, read at less than 1 KiB/s."""
        pending = self._transport.get_write_buffer_size()
        if not pending:
            self._unread = None
            return False
        read = self._written - pending - unsent(self._transport)
        if self._unread is None:
            self._unread = now, read
        since, before = self._unread
        waited = now - since
        if waited < seconds:
            return False
        if read - before < _SLOWEST * waited:
            return True
        self._unread = now, read
        return False
