"""The listening sockets of one port, which the supervisor keeps and its processes inherit.

Each process has a socket of its own (``SO_REUSEPORT``), and the kernel spreads connections over
them by a hash. With one shared socket, one of two processes got 62 of 64 connections. The
supervisor keeps the sockets open, so a process that replaces another takes over its socket, and the
connections that wait there are neither refused nor reset.

Outside Linux the option does not spread connections, so all processes share one socket.
"""

from __future__ import annotations

import socket
import sys

from compose.process.listening_socket import bind, listen

__all__ = ["Listeners"]

_SPREADS = sys.platform == "linux"


class Listeners:
    """A bound socket for each process that accepts; the processes call ``listen``.

    Args:
        host: Name or address of an interface of this machine.
        port: The port.
        count: Number of sockets.

    Raises:
        ConfigurationError: the port is taken, or ``host`` is not an address of this machine.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        self._host, self._port = host, port
        # First without the option: with it, another program that sets it too could share the port.
        with bind(host, port) as alone:
            listen(alone)
        self._shared = None if _SPREADS else bind(host, port)
        self._sockets = [self._shared or self._bind() for _ in range(count)]

    def _bind(self) -> socket.socket:
        return bind(self._host, self._port, several=True)

    def descriptor(self, index: int) -> int:
        """Return the descriptor of a process's socket."""
        return self._sockets[index].fileno()

    def renew(self, index: int) -> None:
        """Replace the socket of a process that died, so that the others get its connections.

        The new socket gets no connections until a process listens on it.
        """
        if self._shared is None:
            self._sockets[index].close()
            self._sockets[index] = self._bind()

    def close(self) -> None:
        """Close the supervisor's copies; the processes keep theirs."""
        for held in self._sockets:
            held.close()
