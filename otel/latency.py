"""A histogram of seconds that records a whole batch for the cost of a few increments.

If a message of the batch is traced, it gets an exemplar: a point of a graph then leads to its
trace.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

__all__ = ["BOUNDS", "LatencyHistogram", "exemplar_of"]

# Edges stand on the promises: p95 < 100 ms (guide), row within 50 ms, and long tails for outages.
BOUNDS: tuple[float, ...] = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 300.0, 900.0, 3600.0,
)  # fmt: skip
"""The upper bounds of every histogram's buckets; a last one, without bound, follows them."""

_LABELS = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]


def exemplar_of(trace_id: str | None) -> dict[str, str] | None:
    """Return the labels of an exemplar; ``None`` if there is no trace."""
    return None if trace_id is None else {"trace_id": trace_id}  # Grafana finds the trace by it


class LatencyHistogram(Collector):
    """A histogram of seconds. It has no lock: the event loop writes, the scraper only reads."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self.counts = [0] * len(_LABELS)
        """How many observations fell into each bucket alone, since the start."""
        self._name = name
        self._documentation = documentation
        self._sum = 0.0
        self._exemplars: list[Exemplar | None] = [None] * len(_LABELS)
        registry.register(self)

    def observe(self, seconds: float, times: int = 1, *, trace_id: str | None = None) -> None:
        """Observe ``seconds`` that many ``times``; ``trace_id`` is the trace of one of them."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self._sum += seconds * times
        if trace_id is not None:
            self._exemplify(seconds, trace_id)

    def observe_all(
        self, values: Sequence[float], *, traced: tuple[float, str] | None = None
    ) -> None:
        """Observe each of ``values`` (seconds; clocks' skew may make one negative: taken as 0).

        ``traced`` is one of them with the id of its trace.
        """
        if not values:
            return
        least = min(values)
        if least < 0.0:
            values = [max(value, 0.0) for value in values]
        bucket = bisect_left(BOUNDS, least)
        if bucket == bisect_left(BOUNDS, max(values)):
            self.counts[bucket] += len(values)  # most batches: no need to look at each
        else:
            for value in values:
                self.counts[bisect_left(BOUNDS, value)] += 1
        self._sum += sum(values)
        if traced is not None:
            self._exemplify(max(traced[0], 0.0), traced[1])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric as the client library writes it out."""
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        counts, total = self.counts.copy(), 0
        for label, count, exemplar in zip(_LABELS, counts, self._exemplars, strict=True):
            total += count
            value = float(total)
            buckets.append((label, value, exemplar) if exemplar else (label, value))
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric((), buckets, self._sum)
        yield family

    describe = collect

    def _exemplify(self, seconds: float, trace_id: str) -> None:
        exemplar = Exemplar({"trace_id": trace_id}, seconds, time.time())
        self._exemplars[bisect_left(BOUNDS, seconds)] = exemplar
