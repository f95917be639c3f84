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

__all__ = ["has_unread", "unsent"]


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
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
