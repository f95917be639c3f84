"""Metrics of the archive of old rows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["ArchiveMetrics"]


class ArchiveMetrics:
    """Rows that go to files, and files that are not finished."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.archived = Counter(
            "rows_archived", "Old rows that this process moved to archive files.", registry=registry
        )
        self.oldest = Gauge(
            "rows_archive_oldest_seconds",
            "How long the oldest archive file that was begun waits to be finished; 0: none waits.",
            registry=registry,
        )
