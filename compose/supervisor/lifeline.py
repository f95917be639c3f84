"""The connection between a supervisor and one process of its own.

The process says each second that its event loop turns, and where it is reached once it serves. When
the supervisor ends, even by SIGKILL, the connection ends, and the process stops.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

__all__ = ["BEAT_SECONDS", "Addresses", "Lifeline"]

BEAT_SECONDS = 1.0


class Addresses(msgspec.Struct, frozen=True):
    """Where a process of the supervisor's is reached."""

    url: str
    metrics_url: str


class Lifeline:
    """The process's end of it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    def ready(self, addresses: Addresses) -> None:
        """Say that requests are served."""
        self._say(msgspec.json.encode(addresses))

    async def run(self) -> None:
        """Say each second that the event loop turns. Never returns."""
        while True:
            self._say(b"")
            await asyncio.sleep(BEAT_SECONDS)

    def watch(self, gone: Callable[[], None], *, within: float) -> None:
        """Call ``gone`` on this loop when the supervisor ends, and exit ``within`` seconds then.

        In a thread, so that a process whose event loop is stuck ends as well.
        """
        loop = asyncio.get_running_loop()

        def wait() -> None:
            poll = select.poll()
            poll.register(self._socket, 0)  # the end is always reported
            poll.poll()
            with suppress(RuntimeError):  # the loop is closed: it ends already
                loop.call_soon_threadsafe(gone)
            time.sleep(within)
            os._exit(1)

        threading.Thread(target=wait, name="lifeline", daemon=True).start()

    def _say(self, line: bytes) -> None:
        with suppress(OSError):  # the supervisor does not read now, or is gone
            self._socket.send(line + b"\n")
