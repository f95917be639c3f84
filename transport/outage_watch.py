"""Outages: groups the failures of an unsteady server, so that each outage is logged once.

Calls to such a server fail and succeed in turn, and a log line for each change would be useless.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

__all__ = ["OutageWatch", "PastOutage"]

_STEADY = 10.0


class PastOutage(msgspec.Struct, frozen=True):
    """An outage that is over: its length up to the last failure, and the failures in it."""

    seconds: float
    failures: int


class OutageWatch:
    """Groups failures into outages. An outage is over when calls have succeeded for ten seconds.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._began = 0.0
        self._last = 0.0
        self._steady_since: float | None = None

    def failed(self, failures: int = 1) -> bool:
        """Count failures, and return whether an outage begins with them."""
        now = self._clock()
        if self._is_steady(now):  # the last outage is over, and no call has reported it
            self._failures = 0
        begins = not self._failures
        if begins:
            self._began = now
        self._failures += failures
        self._last, self._steady_since = now, None
        return begins

    def succeeded(self) -> PastOutage | None:
        """Note a success; return the outage if it is over now, and only once."""
        if not self._failures:
            return None
        now = self._clock()
        if self._steady_since is None:
            self._steady_since = now
        if not self._is_steady(now):
            return None
        past = PastOutage(round(self._last - self._began, 1), self._failures)
        self._failures, self._steady_since = 0, None
        return past

    def ongoing(self) -> tuple[float, float] | None:
        """Return when the current outage began and when it last failed, by the clock."""
        if not self._failures or self._is_steady(self._clock()):
            return None
        return self._began, self._last

    def _is_steady(self, now: float) -> bool:
        return self._steady_since is not None and now - self._steady_since >= _STEADY
