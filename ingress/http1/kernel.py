"""Queries to the kernel about a connection: unsent bytes, unread bytes, a reset.

For a client that reads slowly, the kernel buffers megabytes, and takes more from us only when a
third of that is read. By our own buffer alone, such a client looks as if it read nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios

__all__ = ["has_unread", "is_reset", "unsent"]


def unsent(transport: asyncio.Transport) -> int:
    """Return the number of bytes that the client's kernel has not acknowledged; 0 if unknown."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return 0
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])


def has_unread(transport: asyncio.Transport) -> bool:
    """Return whether bytes (or an end of stream) wait in the kernel for this process to read."""
    return bool(_events(transport, select.POLLIN))


def is_reset(transport: asyncio.Transport) -> bool:
    """Return whether the client reset the connection, or the kernel gave it up as unreachable."""
    return bool(_events(transport, 0) & (select.POLLERR | select.POLLHUP))


def _events(transport: asyncio.Transport, mask: int) -> int:
    """Return the socket's pending poll events: those of ``mask``, errors and hang-ups."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    poll = select.poll()
    poll.register(connection.fileno(), mask)
    return next((found for _, found in poll.poll(0)), 0)
