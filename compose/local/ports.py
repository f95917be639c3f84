"""Free TCP ports on loopback."""

from __future__ import annotations

import socket

__all__ = ["free_port", "is_free", "pick"]

_TRIES = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server of ours could be reached at ``host:port``.

    A listener on ``::1`` counts too: ``curl http://localhost:...`` would find it before ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return not _listens("::1", port) and not _listens("127.0.0.1", port)


def _listens(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((host, port)) == 0
    except OSError:  # no IPv6 on this machine
        return False


def free_port() -> int:
    """Return a port that was free a moment ago, chosen by the system."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pick(preferred: int, host: str = "127.0.0.1", *, avoid: frozenset[int] = frozenset()) -> int:
    """Return ``preferred`` where it is free, else the next one up that is.

    ``avoid`` holds ports promised to others but not yet bound.
    """
    for port in range(preferred, min(preferred + _TRIES, 65536)):
        if port not in avoid and is_free(port, host):
            return port
    return free_port()
