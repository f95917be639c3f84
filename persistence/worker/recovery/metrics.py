"""Metrics of rows that PostgreSQL lost: put back from the log, or gone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["PositionMetrics"]


class PositionMetrics:
    """Counts rows that a failover or a restore of PostgreSQL lost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.restored = Counter(
            "stream_rows_restored",
            "Rows that PostgreSQL had lost, persisted again from the log.",
            ("transport",),
            registry=registry,
        )
        self.rows_lost = Counter(
            "stream_rows_lost",
            "Rows that PostgreSQL lost and the log no longer has: at least one for each partition "
            "and time that this was found.",
            ("transport",),
            registry=registry,
        )
        self.lost = Gauge(
            "stream_position_lost",
            "1 while a partition waits for an operator: the log lacks what PostgreSQL lost.",
            ("transport", "partition"),
            registry=registry,
        )
