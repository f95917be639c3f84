"""Results of the running comparison, as metrics of the process that compares."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["ParityMetrics"]

_RESULTS = (
    "matched", "missing_in_shadow", "missing_in_primary", "different_bytes", "order_differs",
    "order_overlapped", "order_backfilled", "duplicate", "conflict", "trimmed",
)  # fmt: skip


class ParityMetrics:
    """Metrics of the running comparison. Only the comparing process has gauges: take ``max``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.results = Counter(
            "shadow_parity",
            "Messages (order_*: pairs) compared between the two logs, by result.",
            ("result",),
            registry=registry,
        )
        self._lag = Gauge(
            "shadow_lag_messages",
            "Messages of the primary that have no copy in the shadow yet, by partition.",
            ("partition",),
            registry=registry,
        )
        self._coverage = Gauge(
            "shadow_parity_coverage",
            "Share of this minute's messages that could be compared; absent where there were none.",
            ("primary", "shadow"),
            registry=registry,
        )
        self._judged = Gauge(
            "shadow_parity_judged_timestamp_seconds",
            "Everything appended before this moment has been compared.",
            ("primary", "shadow"),
            registry=registry,
        )
        self._last_mismatch = Gauge(
            "shadow_parity_last_mismatch_timestamp_seconds",
            "When the last message was appended in which the logs differ; absent where none was.",
            ("primary", "shadow"),
            registry=registry,
        )
        for result in _RESULTS:
            self.results.labels(result)

    def show(
        self,
        names: tuple[str, str],
        *,
        lag: Sequence[int],
        coverage: float | None,
        judged: float,
        last_mismatch: float,
    ) -> None:
        """Set the gauges."""
        for partition, messages in enumerate(lag):
            self._lag.labels(str(partition)).set(messages)
        if coverage is None:
            self._coverage.clear()
        else:
            self._coverage.labels(*names).set(coverage)
        self._judged.labels(*names).set(judged)
        if last_mismatch:
            self._last_mismatch.labels(*names).set(last_mismatch)

    def forget(self) -> None:
        """Remove the gauges: this process no longer compares."""
        for gauge in (self._lag, self._coverage, self._judged, self._last_mismatch):
            gauge.clear()
