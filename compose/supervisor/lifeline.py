"""The lifeline: the connection between a supervisor and one of its processes.

The process sends a heartbeat from its event loop each second, and its addresses once it serves.
When the supervisor ends, even by SIGKILL, the connection ends, and the process stops.
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
    """The addresses of a process's API and of its metrics."""

    url: str
    metrics_url: str


class Lifeline:
    """The process's end of the lifeline.

    Args:
        descriptor: File descriptor of the socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    def ready(self, addresses: Addresses) -> None:
        """Tell the supervisor that this process serves requests at ``addresses``."""
        self._say(msgspec.json.encode(addresses))

    async def run(self) -> None:
        """Send a heartbeat each second. Never returns."""
        while True:
            self._say(b"")
            await asyncio.sleep(BEAT_SECONDS)

    def watch(self, gone: Callable[[], None], *, within: float) -> None:
        """Call ``gone`` on this loop when the supervisor ends; exit after ``within`` more seconds.

        The watch runs in a thread, so that a process whose event loop is stuck ends as well.
        """
        loop = asyncio.get_running_loop()

        def wait() -> None:
            poll = select.poll()
            poll.register(self._socket, 0)  # poll(2) reports a hang-up always
            poll.poll()
            with suppress(RuntimeError):  # the loop is closed: the process ends already
                loop.call_soon_threadsafe(gone)
            time.sleep(within)
            os._exit(1)

        threading.Thread(target=wait, name="lifeline", daemon=True).start()

    def _say(self, line: bytes) -> None:
        with suppress(OSError):  # the supervisor does not read now, or has ended
            self._socket.send(line + b"\n")
