"""The event loop of every command: uvloop, without its errors about look-ups that were given up."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvloop

__all__ = ["new_event_loop"]


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of uvloop's."""
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_report)
    return loop


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log unhandled errors, as asyncio does, except a name that could not be resolved.

    uvloop's ``create_connection`` leaves the look-up running when it is cancelled, and its result
    is not used any more. The caller that cancelled it has reported that already.
    """
    given_up = "future" in context and isinstance(context.get("exception"), socket.gaierror)
    if not given_up:
        loop.default_exception_handler(context)
