"""Metrics that several rooms of persistence and ingress share: records' outcomes, repeated keys."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from otel.latency import LatencyHistogram
from transport.contract import Reason

__all__ = ["IdempotencyMetrics", "PersistenceMetrics"]


class PersistenceMetrics:
    """Records on their way from the log to rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.processed = Counter(
            "stream_consumer_processed",
            "Records a worker finished with, by outcome.",
            ("status",),
            registry=registry,
        )
        self.owned = Gauge(
            "stream_partition_owned",
            "1 while this process owns the partition.",
            ("transport", "partition"),
            registry=registry,
        )
        self.paused = Gauge(
            "stream_worker_paused",
            "1 while workers wait for a dependency to come back.",
            ("dependency",),
            registry=registry,
        )
        self.dead_letters = Counter(
            "stream_dead_letter",
            "Records dead-lettered, by reason.",
            ("reason",),
            registry=registry,
        )
        self.processing = LatencyHistogram(
            "stream_processing_duration_seconds",
            "From delivery to a worker to the commit.",
            registry=registry,
        )
        self.end_to_end = LatencyHistogram(
            "message_persist_latency_seconds",
            "From acceptance at the ingress to the committed row.",
            registry=registry,
        )
        for status in ("persisted", "duplicate", "error", "dead_lettered"):
            self.processed.labels(status)
        for reason in Reason:
            self.dead_letters.labels(reason.value)


class IdempotencyMetrics:
    """Repeats of a key: ``operation`` is ``ingress`` or ``persist``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.hits = Counter(
            "idempotency_hit",
            "Repeats of a key, by where they were met.",
            ("operation",),
            registry=registry,
        )
        self.requests = Counter(
            "idempotency_requests",
            "Messages checked for repetition, by where (the denominator of the hit rate).",
            ("operation",),
            registry=registry,
        )
        for operation in ("ingress", "persist"):
            self.hits.labels(operation)
            self.requests.labels(operation)
