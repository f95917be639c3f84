"""The addresses of a name, each with a share of the time: one that hangs must not hide the others.

uvloop tries them one after another within one time limit, which the first one uses up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from typing import TypeVar

__all__ = ["connected"]

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)
_last: dict[tuple[str, int], str] = {}  # the address that took a connection, by host and port


async def connected(
    protocol: Callable[[], _Protocol],
    host: str,
    port: int,
    *,
    tls: SSLContext | None,
    seconds: float,
) -> _Protocol:
    """Return what ``protocol`` made for a connection to the first address that takes one.

    The one that did the last time is tried first. ``seconds`` is the time for all of them; the
    caller holds the last one to it.

    Raises:
        OSError: the last one refused; or the name is not known.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = [(family, where[0]) for family, _, _, _, where in found]
    places.sort(key=lambda place: place[1] != _last.get((host, port)))

    async def connect(family: int, address: str | int) -> _Protocol:
        _, made = await loop.create_connection(
            protocol,
            str(address),
            port,
            family=family,
            ssl=tls,
            server_hostname=host if tls else None,
        )
        _last[host, port] = str(address)
        return made

    for place in places[:-1]:
        with suppress(OSError):  # a TimeoutError is one
            async with asyncio.timeout(seconds / len(places)):
                return await connect(*place)
    return await connect(*places[-1])
