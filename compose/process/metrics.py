"""All metrics of a process, exposed from its start."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from ingress.metrics import IngressMetrics
from migration_guide.expectation import MigrationMetrics
from migration_guide.parity.metrics import ParityMetrics
from otel.append_metrics import TransportMetrics
from otel.lag_reporter import LagMetrics
from otel.metrics import Metrics
from otel.shadow_metrics import ShadowMetrics
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.metrics import IdempotencyMetrics, PersistenceMetrics
from persistence.payloads.metrics import PayloadMetrics
from persistence.retention.metrics import ArchiveMetrics
from persistence.worker.position_metrics import PositionMetrics

__all__ = ["ProcessMetrics", "process_metrics"]


class ProcessMetrics:
    """Metrics of a process's surroundings: logs, certificates, and processes that died."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.orphaned = Gauge(
            "stream_leftover",
            "1 while a log that is used, or was, and is not configured here may hold messages.",
            ("transport",),
            registry=registry,
        )
        self.altered = Gauge(
            "stream_log_altered_settings",
            "Settings of the log's server that somebody altered and that endanger its records; "
            "absent while unknown.",
            ("transport",),
            registry=registry,
        )
        self.replaced = Gauge(
            "stream_log_replaced",
            "1 while this process uses another log than the one that the log's name means.",
            ("transport",),
            registry=registry,
        )
        self.certificate_ends = Gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "The end of the certificate that a server shows, or of our own for that server.",
            ("server", "certificate"),
            registry=registry,
        )
        self.certificate_overdue = Gauge(
            "tls_certificate_overdue_timestamp_seconds",
            "The moment from which that certificate should have been renewed.",
            ("server", "certificate"),
            registry=registry,
        )
        self.processes_died = Counter(
            "crossfade_processes_died",
            "Processes of this machine that ended without a goodbye, as this one found them.",
            registry=registry,
        )


def process_metrics() -> Metrics:
    """Return the metrics of all packages: each is exposed before it is first counted."""
    metrics = Metrics()
    for room in (
        TransportMetrics,
        PersistenceMetrics,
        IdempotencyMetrics,
        LagMetrics,
        PositionMetrics,
        DeadLetterMetrics,
        PayloadMetrics,
        ArchiveMetrics,
        IngressMetrics,
        MigrationMetrics,
        ShadowMetrics,
        ParityMetrics,
        ProcessMetrics,
    ):
        metrics.of(room)
    return metrics
