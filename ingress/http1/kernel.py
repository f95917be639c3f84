"""Query the kernel's buffers of a connection.

It takes megabytes for a client that reads slowly, and asks for more only when a third of that is
read: by our own buffer alone, such a client looks as if it read nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios

__all__ = ["has_unread", "is_reset", "unsent"]


def unsent(transport: asyncio.Transport) -> int:
    """Return the bytes that the client's kernel has not confirmed; 0 if unknown."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return 0
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])


def has_unread(transport: asyncio.Transport) -> bool:
    """Return whether bytes came that this process has not read yet."""
    return bool(_events(transport, select.POLLIN))


def is_reset(transport: asyncio.Transport) -> bool:
    """Return whether the client reset the connection, or its kernel gave no answer for too long."""
    return bool(_events(transport, 0) & (select.POLLERR | select.POLLHUP))


def _events(transport: asyncio.Transport, mask: int) -> int:
    """Return those events of ``mask`` that are there, and errors."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    poll = select.poll()
    poll.register(connection.fileno(), mask)
    return next((found for _, found in poll.poll(0)), 0)
