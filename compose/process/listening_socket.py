"""The API's listening socket, bound before all else so that a taken port is reported early."""

from __future__ import annotations

import errno
import socket

from compose.local.ports import pick
from transport.errors import ConfigurationError

__all__ = ["BACKLOG", "PortTakenError", "bind", "listen", "listen_near"]

BACKLOG = 2048
# Bytes per connection (connections inherit it). The kernel's default grows to megabytes, and a
# client that does not read its answers would make us fill them.
_SEND_BUFFER = 128 * 1024


class PortTakenError(ConfigurationError):
    """The port of ``PORT`` is taken by another program."""


def bind(host: str, port: int, *, several: bool = False) -> socket.socket:
    """Return a socket bound to ``host:port``.

    Args:
        host: Name or address of an interface of this machine.
        port: The port.
        several: Set ``SO_REUSEPORT``: several sockets can then share the port's connections.

    Raises:
        PortTakenError: the port is taken.
        ConfigurationError: ``host`` is not an address of this machine, or can't be bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        reason = "write it without brackets" if host.startswith("[") else error.strerror
        raise ConfigurationError(
            f"HOST={host} is not an address of this machine: {reason}"
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
        PortTakenError: another process began to listen on the port after this socket was bound.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port, *_ = bound.getsockname()
        bound.close()
        raise _unusable(host, port, error) from error


def listen_near(host: str, port: int) -> tuple[socket.socket, int]:
    """Return a socket that listens on ``host:port`` or the next free port above, and that port.

    No other process can take the port from now on. Clients that connect wait until the application
    is served.

    Raises:
        ConfigurationError: ``host`` is not an address of this machine.
    """
    while True:
        candidate = pick(port, host)  # another port at each call
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
