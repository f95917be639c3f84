"""The listening sockets of one port, which the supervisor keeps and hands to its processes.

Each process has a socket of its own (``SO_REUSEPORT``): the kernel spreads connections over them by
a hash. One socket that all of them share gave 62 of 64 connections to one of two processes. Since
the supervisor keeps the sockets, a process that replaces another goes on with its socket, and what
waits in it is neither refused nor reset.

Outside Linux the option spreads nothing: there they share one.
"""

from __future__ import annotations

import socket
import sys

from compose.process.listening_socket import bind, listen

__all__ = ["Listeners"]

_SPREADS = sys.platform == "linux"


class Listeners:
    """One socket for each process that accepts, bound to ``host:port``; processes listen.

    Raises:
        ConfigurationError: the port is taken or the address is not ours.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        self._host, self._port = host, port
        # Without the option first: another program that sets it could share the port otherwise.
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
        """Give up the socket of a process that died: others get its connections until it is back.

        The new one is bound, and gets none before a process listens.
        """
        if self._shared is None:
            self._sockets[index].close()
            self._sockets[index] = self._bind()

    def close(self) -> None:
        """Close the supervisor's copies. Processes have theirs."""
        for held in self._sockets:
            held.close()
