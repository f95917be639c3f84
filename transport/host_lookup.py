"""Looking up host names in threads of their own, so that one that hangs delays no other.

A resolver whose name server is silent takes ten seconds to fail, and can't be interrupted. uvloop
looks up two names at a time, asyncio a few more, and both go on when the caller has given up. So a
few names of one server that hang would hold up the look-ups of all others.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any, NamedTuple

__all__ = ["Place", "look_up"]

Place = tuple[int, int, int, str, Any]
"""Family, kind, protocol, canonical name and address, as ``socket.getaddrinfo`` returns them."""


_PATIENCE = 4.0
"""Less than a connection may take, whose error would blame the server."""


class _Answer(NamedTuple):
    places: list[Place]
    until: float
    """When it ends, on the monotonic clock."""


_lock = threading.Lock()
_under_way: dict[tuple[str, int], Future[list[Place]]] = {}
_answers: dict[tuple[str, int], _Answer] = {}


async def look_up(host: str, port: int) -> list[Place]:
    """Return the addresses of ``host`` for a TCP connection to ``port``.

    Callers that ask for the same name share one look-up, which goes on when all have given up. Its
    answer is used for as long again as it took to come: a caller whose time limit is shorter than
    the look-up finds it at the next attempt.

    Raises:
        OSError: the name is unknown, or no name server answered.
        UnicodeError: ``host`` can't be a name.
    """
    if (known := _numeric(host, port)) is not None:
        return known
    key = host, port
    with _lock:
        if (answer := _answers.get(key)) is not None and time.monotonic() < answer.until:
            return answer.places
        shared = _under_way.get(key)
        if shared is None:
            shared = _under_way[key] = _begun(key)
    try:
        async with asyncio.timeout(_PATIENCE):
            return await asyncio.wrap_future(shared)
    except TimeoutError:
        text = f"no name server answered for {host!r} within {_PATIENCE:g} s"
        raise socket.gaierror(socket.EAI_AGAIN, text) from None


def _begun(key: tuple[str, int]) -> Future[list[Place]]:
    shared: Future[list[Place]] = Future()
    shared.set_running_or_notify_cancel()  # a caller that is cancelled can't cancel it any more
    try:
        threading.Thread(target=_ask, args=(key, shared), name="look-up", daemon=True).start()
    except RuntimeError as error:  # the user's limit of threads and processes
        raise OSError(errno.EAGAIN, f"{error}, to look up {key[0]!r}") from error
    return shared


def _numeric(host: str, port: int) -> list[Place] | None:
    """Return the place if ``host`` is an address, else ``None``."""
    try:
        return _places(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None


def _places(host: str, port: int, flags: int = 0) -> list[Place]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


def _ask(key: tuple[str, int], shared: Future[list[Place]]) -> None:
    began = time.monotonic()
    try:
        places = _places(*key)
    except (OSError, UnicodeError) as error:  # unknown, or nothing that a name can be
        with _lock:
            del _under_way[key]
        shared.set_exception(error)
        return
    ended = time.monotonic()
    with _lock:
        del _under_way[key]
        _answers[key] = _Answer(places, ended + (ended - began))
    shared.set_result(places)
