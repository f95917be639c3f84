"""Signals: the first SIGINT, SIGTERM or SIGHUP asks for an orderly stop, the second forces it.

A closed terminal sends SIGHUP. A SIGHUP from elsewhere can mean "reload" (``reload_by_hangup``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from compose.output import err

__all__ = ["Interrupted", "Signals", "unless_set"]

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FORCED = 130
# One Ctrl-C may arrive twice: from the terminal, and forwarded by a wrapper (timeout, npm).
_ECHO_SECONDS = 0.5

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - not an error: a stop was asked for
    """A stop was asked for before the work was done."""


class Signals:
    """``stop`` is set by the first signal. The second ends the process on the spot."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._asked: float | None = None
        self.forced: Callable[[], None] = lambda: None
        """Called before the second signal ends the process."""

    def install(self) -> None:
        """Install the handlers on the running loop."""
        loop = asyncio.get_running_loop()
        for number in _HANDLED:
            loop.add_signal_handler(number, self._received)

    def reload_by_hangup(self) -> asyncio.Event:
        """Return an event that SIGHUP sets, except when it comes from the terminal closing."""
        reload = asyncio.Event()
        had_terminal = _has_terminal()

        def hung_up() -> None:
            if had_terminal and not _has_terminal():
                self._received()
            else:
                reload.set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
        return reload

    def replaced_by_hangup(self) -> asyncio.Event:
        """Return an event that SIGHUP sets, which then asks for an orderly stop.

        A supervisor sends it when another process serves the same address. A later SIGTERM does not
        count as the second signal.
        """
        replaced = asyncio.Event()

        def hung_up() -> None:
            replaced.set()
            self.stop.set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
        return replaced

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` and return its result; cancel it when a stop is asked for.

        Raises:
            Interrupted: ``work`` was cancelled, and has cleaned up.
        """
        return await unless_set(self.stop, work)

    def _received(self) -> None:
        if self._asked is not None:
            if time.monotonic() - self._asked < _ECHO_SECONDS:
                return
            err.print("Stopping at once. Nothing acknowledged is lost.")
            self.forced()
            # Not sys.exit, which would wait for a task that hangs. Guards stop our servers.
            os._exit(_FORCED)
        self._asked = time.monotonic()
        self.stop.set()


async def unless_set(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` and return its result; cancel it when ``stop`` is set.

    Raises:
        Interrupted: ``work`` was cancelled, and has cleaned up.
    """
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Interrupted
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _has_terminal() -> bool:
    try:
        Path("/dev/tty").open("rb").close()
    except OSError:
        return False
    return True
