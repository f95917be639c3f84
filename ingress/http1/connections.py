"""All connections of one listening port: number and memory are limited, and late ones are closed.

Each connection holds a descriptor, and the process needs some descriptors for itself. So at the
limit an idle connection is closed for each new one. If none is idle, the new one may only ask for
health: a flood must not look like an outage to a supervisor that restarts the process. A client
address never displaces connections of an address that has fewer of them.

All connections share one limit of memory for incomplete requests and unread answers.
"""

from __future__ import annotations

import asyncio
import collections
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from prometheus_client import Counter

from ingress.http1.bounds import Bounds

__all__ = ["Connection", "Connections"]

_LOOK_AGAIN = 0.1  # seconds between searches for idle connections: each search takes a while
_IDLE = 1.0  # seconds; a connection that is idle for less may have a request on its way
_SWEEP = 1.0  # seconds between checks for late connections, at most


class Connection(Protocol):
    """One connection, as ``Connections`` sees it."""

    address: str
    held: int
    """Bytes in memory: unparsed ones, beyond the first few, and unread answers."""

    @property
    def is_unread(self) -> bool:
        """Whether an answer waits for the client to read."""

    def idle_since(self) -> float | None:
        """Return since when the connection is idle, or ``None`` if closing it loses something."""

    def check(self, now: float) -> None:
        """Close the connection if it has waited too long for the client."""

    def end(self) -> None:
        """Close the connection at once."""

    def turn_away(self) -> None:
        """Answer 503 (too many connections), and close."""


class Connections:
    """The open connections of one port.

    Args:
        bounds: The limits of their number, times and buffered bytes.
        ended: Counts the connections that the service closes, by reason.
    """

    def __init__(self, bounds: Bounds, ended: Counter) -> None:
        self._bounds = bounds
        self.ended = ended
        self._sweep = min(_SWEEP, *(limit / 8 for limit in bounds.timeouts))
        self._open: dict[Connection, None] = {}
        self._for_health: dict[Connection, None] = {}
        self._addresses: collections.Counter[str] = collections.Counter()
        # Those that hold bytes, and since when they only hold more of them.
        self._holders: dict[Connection, float] = {}
        self._held = 0
        self._idle: deque[Connection] = deque()
        self._look_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open) + len(self._for_health)

    def __iter__(self) -> Iterator[Connection]:
        return iter((*self._open, *self._for_health))

    def add(self, connection: Connection) -> bool:
        """Add a new connection; return whether it may ask for anything, or only for health."""
        self._addresses[connection.address] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._sweep, self._check)
        if len(self._open) < self._bounds.connections or self._make_room(connection):
            self._open[connection] = None
            return True
        if len(self._for_health) >= self._bounds.health_connections:
            oldest = next(iter(self._for_health))
            self.remove(oldest)
            oldest.turn_away()
        self._for_health[connection] = None
        return False

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        of = self._open if connection in self._open else self._for_health
        if connection not in of:
            return
        del of[connection]
        self.hold(connection, 0)
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]

    def hold(self, connection: Connection, held: int) -> None:
        """Record that ``connection`` holds ``held`` bytes.

        If all together are past the limit, the connection that holds most for longest (bytes times
        seconds) is closed: a large answer that was just written may be read at once. An answer may
        be larger than the limit, while no other connection holds anything.
        """
        if held and connection not in self._open and connection not in self._for_health:
            return  # it is closed
        now = asyncio.get_running_loop().time()
        grown = held - connection.held
        self._held += grown
        connection.held = held
        if not held:
            self._holders.pop(connection, None)
        elif grown < 0 or connection not in self._holders:
            self._holders[connection] = now
        since = self._holders
        while self._held > self._bounds.held_bytes:
            most = max(since, key=lambda other: other.held * (now - since[other]))
            if most.is_unread and len(since) == 1:
                break
            self.ended.labels("unread" if most.is_unread else "held").inc()
            self.remove(most)
            most.end()

    def _make_room(self, newcomer: Connection) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._idle and now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN
            self._idle.extend(self._idle_ones(now))
        share = self._addresses[newcomer.address]
        while self._idle:
            connection = self._idle[0]
            since = connection.idle_since() if connection in self._open else None
            if since is None or now - since < _IDLE:
                self._idle.popleft()  # it was closed, or has sent a request
                continue
            if self._addresses[connection.address] < share:
                return False
            self._idle.popleft()
            self.remove(connection)
            self.ended.labels("idle").inc()
            connection.end()
            return True
        return False

    def _idle_ones(self, now: float) -> list[Connection]:
        """Return the idle connections; those of addresses with most connections come first."""
        found = [
            (-self._addresses[connection.address], since, number, connection)
            for number, connection in enumerate(self._open)
            if (since := connection.idle_since()) is not None and now - since >= _IDLE
        ]
        return [connection for *_, connection in sorted(found, key=lambda item: item[:3])]

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        # The timer is set first, so that an error in one connection's check stops no later sweep.
        self._timer = loop.call_later(self._sweep, self._check) if len(self) else None
        now = loop.time()
        for connection in self:
            connection.check(now)
