"""Answers on their way to a client that may read them slowly, or not at all."""

from __future__ import annotations

import asyncio

from ingress.http1.kernel import unsent

__all__ = ["AnswerWriter"]

_SLOWEST = 1024  # bytes a second that an answer has to be read at, once its time is up


class AnswerWriter:
    """The writing side of one connection."""

    __slots__ = ("_transport", "_unread", "_writable", "_written", "paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written = 0
        # Since when bytes were always unread, and how many had been read then.
        self._unread: tuple[float, int] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.paused = False
        """Whether the transport's buffer is full."""

    def write(self, data: bytes) -> None:
        """Send bytes; those that the kernel does not take are buffered."""
        self._written += len(data)
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the buffer has room again, or the connection is lost."""
        await self._writable.wait()

    def pause(self) -> None:
        """Note that the buffer is full."""
        self.paused = True
        self._writable.clear()

    def resume(self) -> None:
        """Note that the client has read, or that the connection is lost."""
        self.paused = False
        self._unread = None  # the client read some 48 KiB
        self._writable.set()

    @property
    def is_unread(self) -> bool:
        """Whether bytes waited for the client at the last ``is_stuck``."""
        return self._unread is not None

    def is_stuck(self, now: float, seconds: float) -> bool:
        """Return whether the client left an answer unread for more than ``seconds``."""
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
