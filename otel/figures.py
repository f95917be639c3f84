"""Latencies of the last seconds, as a process reports them in its heartbeat.

The buckets of several processes can be added up, so a reader gets the quantiles of all of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

from otel.latency import BOUNDS, LatencyHistogram

__all__ = ["Figures", "quantile"]

_WINDOW = 10.0


class Figures:
    """Reports from histograms that exist anyway: no cost is added to a message."""

    def __init__(self, histograms: Mapping[str, LatencyHistogram]) -> None:
        self._histograms = histograms
        self._past: deque[tuple[float, dict[str, list[int]]]] = deque()

    def report(self) -> dict[str, list[int]]:
        """Return each bucket's number of observations in the last ten seconds, by name."""
        now = time.monotonic()
        counts = {name: histogram.counts.copy() for name, histogram in self._histograms.items()}
        self._past.append((now, counts))
        while len(self._past) > 1 and self._past[1][0] <= now - _WINDOW:
            self._past.popleft()
        _, before = self._past[0]
        return {
            name: [new - old for new, old in zip(counts[name], before[name], strict=True)]
            for name in counts
        }


def quantile(counts: Sequence[int], q: float) -> float | None:
    """Return the upper bound, in seconds, of the bucket that holds the ``q`` quantile.

    ``None`` if nothing was observed. Beyond the last bound, the last bound is returned.
    """
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip(BOUNDS, counts, strict=False):
        seen += count
        if seen >= q * total:
            return bound
    return BOUNDS[-1]
