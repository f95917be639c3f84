"""Metrics of dead letters in their table."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["DeadLetterMetrics"]


class DeadLetterMetrics:
    """Counts of waiting dead letters, and of their outcomes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.depth = Gauge(
            "stream_dead_letter_depth",
            "Dead letters that wait for a redrive or a discard; absent while unknown.",
            ("reason",),
            registry=registry,
        )
        self.unindexed = Gauge(
            "stream_dead_letter_unindexed",
            "Dead letters in the log that are not in the table yet; absent while unknown.",
            ("transport",),
            registry=registry,
        )
        self.incomplete = Counter(
            "stream_dead_letter_incomplete",
            "Dead letters that the table can't hold whole, by what their rows lack: fields, bytes, "
            "or row (there is none). The log has them whole.",
            ("lacks",),
            registry=registry,
        )
        self.redriven = Counter(
            "dead_letter_redriven", "Dead letters appended to the log again.", registry=registry
        )
