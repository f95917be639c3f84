"""Brokers whose quota we have used up, and until when they want to hear nothing (KIP-219).

A broker stops reading from a client that is over its quota, and an append that it reads late has
an unknown outcome. What waits here instead is known not to be sent.
"""

from __future__ import annotations

import logging
import time

__all__ = ["Throttled"]

log = logging.getLogger(__name__)

_AGAIN = 60.0  # seconds after which it is said again


class Throttled:
    """The brokers, by node id."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._said = float("-inf")

    def told(self, node: int, seconds: float) -> None:
        """Note what an answer of ``node`` said: nothing for so many ``seconds``."""
        if seconds <= 0:
            return
        now = time.monotonic()
        self._until[node] = now + seconds
        if now - self._said >= _AGAIN:
            self._said = now
            log.warning(
                "Kafka slows us down, as our quota is used up: raise producer_byte_rate of our "
                "user or client id, or send less",
                extra={"node": node, "seconds": seconds},
            )

    def seconds(self, node: int) -> float:
        """Return for how many seconds nothing is to be sent to ``node``; 0 if it may be sent."""
        if not self._until:
            return 0.0
        left = self._until.get(node, 0.0) - time.monotonic()
        if left > 0:
            return left
        self._until.pop(node, None)
        return 0.0
