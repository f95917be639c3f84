"""A histogram of latencies that needs little memory: its buckets are 2 % wide."""

from __future__ import annotations

from collections import Counter
from math import ceil, exp, log

__all__ = ["Latencies"]

_WIDTH = log(1.02)


class Latencies:
    """Durations in seconds, to within 2 %."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Add one latency."""
        self._counts[ceil(log(max(seconds, 1e-6)) / _WIDTH)] += 1

    def quantile(self, share: float) -> float | None:
        """Return the quantile ``share`` (0 to 1) in seconds; ``None`` without latencies."""
        wanted = share * self._counts.total()
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return exp(bucket * _WIDTH)
        return None
