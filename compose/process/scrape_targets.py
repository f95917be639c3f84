"""Scrape targets for Prometheus: ``GET /metrics/targets`` on the metrics port of any process.

Several processes on one host take the ports from ``METRICS_PORT`` upwards, so a list written by
hand does not stay right. Each process's heartbeat notes the address of its metrics in PostgreSQL;
the answer lists those addresses in the format of Prometheus's HTTP service discovery.

Silent processes stay listed: their failing scrape raises an alert. While PostgreSQL can't be
asked there is no answer, and Prometheus goes on with the list that it has.
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
    """The list of targets, refreshed every few seconds and served from memory.

    Scrapes arrive in threads, which can't use the event loop's connections.

    Args:
        pool: Connections to the database that has the processes.
        every: Seconds from one refresh to the next.
        good_for: Seconds after which a list is too old to be served.
    """

    def __init__(self, pool: Pool, *, every: float = _EVERY, good_for: float = _GOOD_FOR) -> None:
        self._pool = pool
        self._every = every
        self._good_for = good_for
        self._answer = b""
        self._asked = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh the list every few seconds until ``stop`` is set."""
        while not stop.is_set():
            await self.refresh()
            await stopped_within(stop, self._every)

    async def refresh(self) -> None:
        """Read the processes from PostgreSQL once; keep the old list if it does not answer."""
        try:
            found = await processes(self._pool, within=_WITHIN)
        except PersistenceError:
            return
        self._answer = msgspec.json.encode(described(found))
        self._asked = time.monotonic()

    def answer(self) -> bytes | None:
        """Return the list as JSON; ``None`` if it is too old."""
        return self._answer if time.monotonic() - self._asked < self._good_for else None


def described(found: Iterable[Process]) -> list[dict[str, object]]:
    """Return the processes in the format of Prometheus's HTTP service discovery."""
    return [
        {"targets": [address], "labels": {"role": process.role}}
        for process in found
        if (address := _address(process))
    ]


def _address(process: Process) -> str | None:
    """Return ``host:port`` for Prometheus; ``None`` if the process's URL has no valid port."""
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
    if anywhere:  # it listens on every address, so its host's name works too
        host = process.host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
