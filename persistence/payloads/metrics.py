"""Metrics of the payload store."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from otel.latency import LatencyHistogram
from persistence.payloads.errors import (
    PayloadCorrupt,
    PayloadMissing,
    PayloadOutage,
    PayloadUnreadable,
)

__all__ = ["OUTCOMES", "PayloadMetrics"]

OUTCOMES = {
    PayloadMissing: "missing",
    PayloadUnreadable: "missing",
    PayloadCorrupt: "corrupt",
    PayloadOutage: "outage",
}
_OPERATIONS = ("put", "get", "head", "list", "delete", "sign")


class PayloadMetrics:
    """Requests to the payload store; ``outcome`` is ``ok`` or a value of ``OUTCOMES``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "payload_store_requests",
            "Requests to the payload store, by operation and outcome.",
            ("operation", "outcome"),
            registry=registry,
        )
        self.bytes = Counter(
            "payload_store_bytes",
            "Bytes of content written to (put) and read from (get) the payload store.",
            ("operation",),
            registry=registry,
        )
        self.upload = LatencyHistogram(
            "payload_upload_duration_seconds",
            "Content on its way into the payload store, before its message is appended.",
            registry=registry,
        )
        self.fetch = LatencyHistogram(
            "payload_fetch_duration_seconds",
            "Content on its way from the payload store to a worker, verified.",
            registry=registry,
        )
        for operation in _OPERATIONS:
            for outcome in ("ok", *OUTCOMES.values()):
                self.requests.labels(operation, outcome)
        for operation in ("put", "get"):
            self.bytes.labels(operation)
