"""Free TCP ports on loopback.

A port is chosen some time before the server binds it. The processes of Crossfade of one user agree
by claims: locked bytes of a file. Other programs don't know of those, so a server that was started
must be asked whether it is ours (``compose.local.server``), and one that lost its port gets
another.
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
# Below what Linux (32768) and macOS (49152) choose from, above what servers are known by.
_CHOSEN = range(20_000, 32_000)
_ours: set[int] = set()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server of ours could be reached at ``host:port``.

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


def free_port(chosen: range = _CHOSEN) -> int:
    """Return a port of this process's own, to be bound whenever it likes, and again after that.

    Nothing is bound by this, so the system could give a port of its own choice to another program
    before it is, or while a server of ours is down and comes back. So it is one that systems do not
    choose by themselves, and that no other process of Crossfade's gets from here as long as this
    one lives.

    Args:
        chosen: The ports to choose from, while one of them is free.
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
    """Open the file of which each byte is a port; the system unlocks ours when we end."""
    name = Path(tempfile.gettempdir()) / f"crossfade-ports-{os.getuid()}"
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _claim(port: int) -> bool:
    """Claim ``port`` for this process; return whether it was free."""
    if port in _ours:
        return False
    try:
        claims = _claims()
    except OSError:  # no folder for it: each server's proof of its identity has to do
        claims = None
    if claims is not None:
        try:
            fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
    _ours.add(port)
    return True


def pick(preferred: int, host: str = "127.0.0.1") -> int:
    """Return ``preferred`` where it is free, else the next one up that is.

    It is this process's own from now on, as with ``free_port``, and is not returned again. A
    program that knows nothing of these claims may still bind it first.
    """
    for port in range(preferred, min(preferred + _TRIES, 65536)):
        if is_free(port, host) and _claim(port):
            return port
    return free_port()
