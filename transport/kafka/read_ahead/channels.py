"""The two connections for fetches to one broker, and how long each fetch may wait there.

A broker answers the requests of one connection in order. So a partition that is wanted while a long
fetch waits for the others would wait with it. It is fetched over the second connection instead, by
short fetches, until the long fetch ends and takes it in. All fetches end by one time, at which both
connections are free: otherwise the two would never merge.
"""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.client import ConnectionGroup

__all__ = ["LONG_WAIT", "SHORT", "Channels", "Turn"]

LONG_WAIT = 0.5
"""The seconds that a fetch waits at the broker for a record; an append ends it at once."""
_SHORT_WAIT = 0.025
_LEAST_WAIT = 0.002
_PACE = 0.005  # seconds between two fetches: under load, appends in between share one

# aiokafka names two connections to each broker. Its requests for metadata use the default one, and
# must not wait behind a long fetch.
_LONG, SHORT = ConnectionGroup.COORDINATION, ConnectionGroup.DEFAULT


class Turn(NamedTuple):
    """Permission for one fetch: its connection, and the milliseconds it may wait at the broker."""

    channel: int
    wait_ms: int


class Channels:
    """The two connections to one broker. Times are in seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._busy: set[int] = set()
        self._ends = 0.0  # when all fetches under way have ended
        self._rests_until = 0.0

    def take(self, now: float) -> Turn | float | None:
        """Take a free connection for one fetch.

        Returns:
            The turn; or the seconds after which to ask again; or ``None``: ask again after
            ``give_back``.
        """
        if now < self._rests_until:
            return self._rests_until - now
        if not self._busy:
            self._ends = now + LONG_WAIT
        left = self._ends - now
        if len(self._busy) > 1 or left < _LEAST_WAIT:
            return None
        channel, wait = (SHORT, _SHORT_WAIT) if _LONG in self._busy else (_LONG, LONG_WAIT)
        self._busy.add(channel)
        self._rests_until = now + _PACE
        return Turn(channel, round(min(left, wait) * 1000))

    def give_back(self, channel: int) -> None:
        """Note that the fetch on this connection has ended."""
        self._busy.discard(channel)

    def rest(self, until: float) -> None:
        """Send nothing before this time: the broker holds our requests back (KIP-219)."""
        self._rests_until = max(self._rests_until, until)
