"""Free TCP ports on loopback.

A port is chosen some time before a server binds it. Meanwhile a claim, a locked byte of a file,
keeps the other Crossfade processes of this user away from it. Other programs don't know of the
claims. So a server that answers at a port must prove that it is ours (``compose.local.server``),
and a server that lost its port gets another.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["free_port", "is_free", "pick"]

_TRIES = 200
# Below the ephemeral ports of Linux (from 32768) and macOS (from 49152), above well-known ports.
_CHOSEN = range(20_000, 32_000)
_ours: set[int] = set()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server of ours could bind ``host:port`` and be reached there.

    A listener on ``::1`` makes the port taken, too: ``curl http://localhost:...`` would reach it
    instead of ours.
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


def free_port(chosen: range = _CHOSEN) -> int:
    """Claim a free port for the life of this process, and return it.

    The port is not bound. It is outside the range of ephemeral ports, so the system does not give
    it to another program before a server binds it, or while the server restarts. No other Crossfade
    process gets it while this one lives.

    Args:
        chosen: The ports to choose from. If all are taken, the system chooses.
    """
    for _ in chosen:
        port = random.choice(chosen)  # noqa: S311 - no secret
        if is_free(port) and _claim(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:  # every one is taken
        probe.bind(("127.0.0.1", 0))
        left: int = probe.getsockname()[1]
        return left


@cache
def _claims() -> int:
    """Open the file of claims, one byte per port; the system unlocks ours when we end."""
    name = Path(tempfile.gettempdir()) / f"crossfade-ports-{os.getuid()}"
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _claim(port: int) -> bool:
    """Claim ``port`` for this process; return whether it was free."""
    if port in _ours:
        return False
    try:
        claims = _claims()
    except OSError:  # the file can't be opened: rely on each server's proof of its identity
        claims = None
    if claims is not None:
        try:
            fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
    _ours.add(port)
    return True


def pick(preferred: int, host: str = "127.0.0.1") -> int:
    """Return ``preferred`` if it is free, else the next free port above.

    The port is claimed for this process, as with ``free_port``, and is not returned again. A
    program that knows nothing of the claims may still bind it first.
    """
    for port in range(preferred, min(preferred + _TRIES, 65536)):
        if is_free(port, host) and _claim(port):
            return port
    return free_port()
