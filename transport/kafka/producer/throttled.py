"""Throttling by brokers whose quota we have used up: until when to send them nothing (KIP-219).

A broker stops reading from a client that is over its quota, and an append that it reads late has an
unknown outcome. An append that waits here instead is known not to have been sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Throttled"]

log = logging.getLogger(__name__)

_AGAIN = 60.0  # seconds between two warnings
_LATELY = 60.0


class Throttled:
    """The waits of all brokers, by node id. A transport has one, which outlives its producers."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._said = float("-inf")
        self._latest = 0.0
        self._over = float("-inf")
        self.on_throttled: Callable[[float], None] = lambda _: None
        """Called with the seconds by which a broker has just extended its wait."""

    def note(self, node: int, seconds: float) -> None:
        """Note that an answer of ``node`` asked to send nothing for so many ``seconds``."""
        if seconds <= 0:
            return
        now = time.monotonic()
        until = now + seconds
        # Several answers of one broker may ask for the same wait.
        self.on_throttled(max(0.0, until - max(now, self._until.get(node, now))))
        self._until[node] = until
        self._latest, self._over = seconds, max(self._over, until)
        if now - self._said >= _AGAIN:
            self._said = now
            log.warning(
                "Kafka slows us down, as our quota is used up: raise producer_byte_rate and "
                "request_percentage of our user or client id, or send less",
                extra={"node": node, "seconds": seconds},
            )

    def lately(self) -> float:
        """Return the seconds of the last wait, if it ended less than a minute ago; else 0."""
        return self._latest if time.monotonic() - self._over < _LATELY else 0.0

    def seconds(self, node: int) -> float:
        """Return the seconds for which to send nothing to ``node``; 0 if it may be sent now."""
        if not self._until:
            return 0.0
        left = self._until.get(node, 0.0) - time.monotonic()
        if left > 0:
            return left
        self._until.pop(node, None)
        return 0.0
