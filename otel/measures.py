"""Observe a whole batch in a histogram at the cost of a few increments, not of one per record.

With an exemplar where one of the batch is traced: a point of a graph then leads to its trace.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Histogram
from prometheus_client.samples import Exemplar

__all__ = ["TRACE_ID", "exemplar_of", "observe_all", "observe_times"]

TRACE_ID = "trace_id"
"""The exemplars' label, by which Grafana finds the trace."""


def exemplar_of(trace_id: str | None) -> dict[str, str] | None:
    """Return the labels of an exemplar, ``None`` where there is no trace to lead to."""
    return None if trace_id is None else {TRACE_ID: trace_id}


def observe_times(
    histogram: Histogram, seconds: float, times: int, *, trace_id: str | None = None
) -> None:
    """Observe ``seconds`` that many ``times``; ``trace_id`` is the trace of one of them."""
    _add(histogram, {bisect_left(histogram._upper_bounds, seconds): times}, seconds * times)  # noqa: SLF001
    if trace_id is not None:
        _exemplify(histogram, seconds, trace_id)


def observe_all(
    histogram: Histogram, values: Sequence[float], *, traced: tuple[float, str] | None = None
) -> None:
    """Observe each of ``values`` (seconds; a clock's skew may make one negative: taken as 0).

    ``traced`` is one of them with the id of its trace.
    """
    if not values:
        return
    bounds = histogram._upper_bounds  # noqa: SLF001
    least, most = bisect_left(bounds, min(values)), bisect_left(bounds, max(values))
    if least == most and min(values) >= 0.0:  # most batches: no need to look at each
        _add(histogram, {least: len(values)}, sum(values))
    else:
        total = 0.0
        counts: dict[int, int] = {}
        for value in values:
            seconds = max(value, 0.0)
            total += seconds
            bucket = bisect_left(bounds, seconds)
            counts[bucket] = counts.get(bucket, 0) + 1
        _add(histogram, counts, total)
    if traced is not None:
        _exemplify(histogram, max(traced[0], 0.0), traced[1])


def _add(histogram: Histogram, counts: dict[int, int], total: float) -> None:
    # The client has no weighted observe(); it is these two lines, per value. A test holds the
    # result against observe() itself, so a change inside the client can't go unnoticed.
    histogram._sum.inc(total)  # noqa: SLF001
    for bucket, count in counts.items():
        histogram._buckets[bucket].inc(count)  # noqa: SLF001


def _exemplify(histogram: Histogram, seconds: float, trace_id: str) -> None:
    bucket = histogram._buckets[bisect_left(histogram._upper_bounds, seconds)]  # noqa: SLF001
    bucket.set_exemplar(Exemplar({TRACE_ID: trace_id}, seconds, time.time()))
