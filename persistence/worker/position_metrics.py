"""Metrics of rows that a failover or a restore of PostgreSQL lost."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

__all__ = ["PositionMetrics"]


class PositionMetrics:
    """Counts positions that went back, and those whose records the log no longer has."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.went_back = Counter(
            "stream_position_went_back",
            "Times that a partition's position in PostgreSQL went back with its rows, which are "
            "persisted again from the log.",
            ("transport",),
            registry=registry,
        )
        self.rows_lost = Counter(
            "stream_rows_lost",
            "Times that a partition's position was before the first record of the log: records "
            "without a row are gone.",
            ("transport",),
            registry=registry,
        )
