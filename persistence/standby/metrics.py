"""Metrics of standbys."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["StandbyMetrics"]


class StandbyMetrics:
    """The log that is not consumed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.settled = Counter(
            "stream_standby_settled",
            "Records of a log that is not consumed, passed because they were settled.",
            ("transport",),
            registry=registry,
        )
        self.taken_over = Counter(
            "stream_standby_takeover",
            "Records that a standby persisted itself, by why nobody else would have.",
            ("transport", "reason"),
            registry=registry,
        )
        self.stalled = Gauge(
            "stream_standby_stalled",
            "Partitions of this process whose standby waits too long for its next record.",
            ("transport",),
            registry=registry,
        )
