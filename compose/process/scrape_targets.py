"""Where Prometheus finds every process: ``GET /metrics/targets`` on any one's metrics port.

Several processes on one host take the ports from ``METRICS_PORT`` upwards, so no list written by
hand stays right. Each process has its own row among the processes, with its metrics' address; the
answer is those, as Prometheus's HTTP service discovery reads it.

Processes that are silent stay listed: their failing scrape raises an alert. While
PostgreSQL can't be asked there is no answer, and Prometheus goes on with the list it has.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from persistence.database.outage import stopped_within
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.processes import Process, processes

__all__ = ["Targets", "described"]

_EVERY = 5.0
_WITHIN = 2.0
_GOOD_FOR = 3 * _EVERY


class Targets:
    """The list, asked for every few seconds and answered from memory: scrapes come in threads.

    Args:
        pool: Of the database that has the processes.
        every: Seconds from one question to the next.
        good_for: Seconds after which an answer is too old to be given.
    """

    def __init__(self, pool: Pool, *, every: float = _EVERY, good_for: float = _GOOD_FOR) -> None:
        self._pool = pool
        self._every = every
        self._good_for = good_for
        self._answer = b""
        self._asked = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the list until ``stop`` is set."""
        while not stop.is_set():
            await self.refresh()
            await stopped_within(stop, self._every)

    async def refresh(self) -> None:
        """Ask once."""
        try:
            found = await processes(self._pool, within=_WITHIN)
        except PersistenceError:
            return
        self._answer = msgspec.json.encode(described(found))
        self._asked = time.monotonic()

    def answer(self) -> bytes | None:
        """Return the list as JSON, ``None`` if it is out of date."""
        return self._answer if time.monotonic() - self._asked < self._good_for else None


def described(found: Iterable[Process]) -> list[dict[str, object]]:
    """Return the processes as Prometheus's service discovery has them."""
    return [
        {"targets": [address], "labels": {"role": process.role}}
        for process in found
        if (address := _address(process))
    ]


def _address(process: Process) -> str | None:
    """Return the address for Prometheus; ``None`` if it names none that can be one."""
    try:
        parts = urlsplit(process.metrics_url)
        port = parts.port
    except ValueError:
        return None
    if port is None:
        return None
    host = parts.hostname or process.host
    try:
        anywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        anywhere = False
    if anywhere:  # it listens on every address, of which its host's name is one
        host = process.host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
