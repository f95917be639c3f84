"""Tells systemd when the service serves, reloads and stops: the protocol of sd_notify(3).

A unit with ``Type=notify`` asks for it, and one with ``WatchdogSec`` for heartbeats. Elsewhere
nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping

import structlog

from persistence.database.outage import stopped_within

__all__ = ["ServiceManager"]

log = structlog.get_logger(__name__)


class ServiceManager:
    """The systemd that started this process, if one did.

    Its variables are taken out of ``environment``, so that processes which this one starts do not
    speak for it.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # a name in the abstract namespace of unix(7)
            self._address = "\0" + self._address[1:]
        microseconds = environment.pop("WATCHDOG_USEC", "")
        is_for_us = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._beat: float | None = None  # seconds between two heartbeats
        if self._address and is_for_us and microseconds.isdecimal():
            self._beat = int(microseconds) / 1e6 / 2

    def ready(self, status: str) -> None:
        """Say that the service serves, or serves again after a reload; ``status`` is for people."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload has begun; ``ready`` ends it."""
        moment = time.monotonic_ns() // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={moment}", "STATUS=Replacing each process")

    async def watch(self, stop: asyncio.Event) -> None:
        """Send heartbeats until this is cancelled, and say so when ``stop`` is set."""
        while not stop.is_set():
            self._heartbeat()
            await (stopped_within(stop, self._beat) if self._beat else stop.wait())
        self._say("STOPPING=1", "STATUS=Stopping")
        while self._beat:
            self._heartbeat()
            await asyncio.sleep(self._beat)

    def _heartbeat(self) -> None:
        if self._beat:
            self._say("WATCHDOG=1")

    def _say(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)  # a systemd that hangs must not stop the event loop
                out.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.warning("systemd can't be told", what=assignments[0], error=str(error))
