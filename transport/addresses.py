"""Connecting to the addresses of a host name side by side, so that one that hangs hides no other.

asyncio can do that (RFC 8305), uvloop can't. uvloop tries the addresses one after another, so a
first address that hangs uses up the client's time for all of them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from typing import Any

from transport.host_lookup import look_up

__all__ = ["connected_socket"]

_HEAD_START_SECONDS = 0.25  # RFC 8305, 5
_last: dict[tuple[str, int], str | int] = {}  # the address that took a connection, by host and port


async def connected_socket(host: str, port: int) -> socket.socket:
    """Return a socket connected to the first address of ``host`` that takes the connection.

    The address that worked last is tried first. The next attempt begins when the one before has
    failed, or has not succeeded within a quarter of a second. The caller sets the limit for all.

    Raises:
        OSError: all addresses refused, and this is the last one's error; or the name is unknown.
    """
    loop = asyncio.get_running_loop()
    last = _last.get((host, port))
    places = sorted(await look_up(host, port), key=lambda place: place[4][0] != last)
    attempts: list[asyncio.Task[socket.socket]] = []
    winner = None
    try:
        for number, (family, kind, protocol, _, address) in enumerate(places, 1):
            attempts.append(loop.create_task(_connected(family, kind, protocol, address)))
            is_last = number == len(places)
            winner = await _first(attempts, within=None if is_last else _HEAD_START_SECONDS)
            if winner:
                break
    finally:
        _give_up(attempt for attempt in attempts if attempt is not winner)
    if winner is None:
        return attempts[-1].result()  # raises
    _last[host, port] = places[attempts.index(winner)][4][0]  # the peer may have hung up already
    return winner.result()


async def _connected(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except OSError as error:
        made.close()
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None
    except BaseException:
        made.close()
        raise
    return made


async def _first(
    attempts: list[asyncio.Task[socket.socket]], *, within: float | None
) -> asyncio.Task[socket.socket] | None:
    """Return an attempt that succeeded; ``None`` if all failed, or none did ``within`` seconds."""
    trying = {attempt for attempt in attempts if not attempt.done()}
    while trying:
        ended, trying = await asyncio.wait(
            trying, timeout=within, return_when=asyncio.FIRST_COMPLETED
        )
        for attempt in ended:
            if attempt.exception() is None:
                return attempt
        if within is not None and (not ended or attempts[-1].done()):
            return None
    return None


def _give_up(attempts: Iterable[asyncio.Task[socket.socket]]) -> None:
    for attempt in attempts:
        if not attempt.done():
            attempt.cancel()
        elif attempt.exception() is None:
            attempt.result().close()
