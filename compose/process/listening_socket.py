"""The socket that the API is served on: bound first, so that a port that is taken is told early."""

from __future__ import annotations

import errno
import socket

from compose.local.ports import pick
from transport.errors import ConfigurationError

__all__ = ["BACKLOG", "PortTakenError", "bind", "listen", "listen_near"]

BACKLOG = 2048
# Bytes, of each connection (they inherit it). The kernel's own choice goes up to megabytes, which a
# client that reads nothing makes us fill.
_SEND_BUFFER = 128 * 1024


class PortTakenError(ConfigurationError):
    """Another program listens on PORT."""


def bind(host: str, port: int, *, several: bool = False) -> socket.socket:
    """Return a socket bound to ``host:port``; ``several`` may be, and share the connections.

    Raises:
        ConfigurationError: the port is taken or the address is not ours.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(
            f"HOST={host} is not an address of this machine: {error.strerror}"
        ) from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if several:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unusable(host, port, error) from error
    return bound


def listen(bound: socket.socket) -> None:
    """Listen on a bound socket.

    Raises:
        PortTakenError: another process listens on its port since it was bound.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port, *_ = bound.getsockname()
        bound.close()
        raise _unusable(host, port, error) from error


def listen_near(host: str, port: int) -> tuple[socket.socket, int]:
    """Return a socket that listens on ``host:port`` or the next free port up, and that port.

    Nobody else can take it from now on. What connects waits until the application is served.

    Raises:
        ConfigurationError: the address is not ours.
    """
    while True:
        candidate = pick(port, host)  # never the same one twice
        try:
            bound = bind(host, candidate)
            listen(bound)
        except PortTakenError:
            continue
        return bound, candidate


def _unusable(host: str, port: int, error: OSError) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"PORT={port} is taken on {host}: stop what listens there, or set PORT to another"
        )
    return ConfigurationError(f"HOST={host} PORT={port} can't be listened on: {error.strerror}")
