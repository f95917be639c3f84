"""The event loop of every command: uvloop, whose ``create_connection`` tries addresses at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from transport.addresses import connected_socket

__all__ = ["new_event_loop"]


class _Loop(uvloop.Loop):
    """A loop that tries the addresses of a name side by side.

    asyncpg, aiokafka and others name a host and leave its addresses to the loop.
    """

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Connect to a server, as asyncio documents it."""
        asked = {name for name, value in options.items() if value}
        if not host or port is None or asked - {"ssl", "server_hostname"}:
            return await super().create_connection(protocol_factory, host, port, **options)
        made = await connected_socket(host, port)
        if options.get("ssl") and not options.get("server_hostname"):
            options["server_hostname"] = host
        return await super().create_connection(protocol_factory, sock=made, **options)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop."""
    loop = _Loop()
    loop.set_exception_handler(_report)
    return loop


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log unhandled errors, as asyncio does, except a name that could not be resolved.

    uvloop's look-ups go on when the caller is cancelled, and their results are not used any more.
    The caller that cancelled it has reported that already.
    """
    given_up = "future" in context and isinstance(context.get("exception"), socket.gaierror)
    if not given_up:
        loop.default_exception_handler(context)
