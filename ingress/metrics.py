"""Metrics of the ingress: requests on their way to the log, and connections."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from otel.latency import LatencyHistogram

__all__ = ["IngressMetrics"]


class IngressMetrics:
    """Metrics of messages from their request to their acknowledgement, and of connections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queue = Gauge(
            "ingress_queue_depth", "Messages waiting for the next append.", registry=registry
        )
        self.shed = Counter(
            "ingress_shed",
            "Requests refused with 503 because the log can't keep up.",
            registry=registry,
        )
        self.failed = Counter(
            "ingress_failed",
            "Messages answered with 503 after they were handed in, by the problem's name.",
            ("problem",),
            registry=registry,
        )
        self.connections_ended = Counter(
            "ingress_connections_ended",
            "Connections that the service ended, by why: a problem's name (request-timeout, ...), "
            "unread (an answer was not read in time, or held most of the memory), silent (nothing "
            "came), idle (its place was needed), or held (it held most of what was incomplete).",
            ("reason",),
            registry=registry,
        )
        self.ack = LatencyHistogram(
            "ingress_ack_duration_seconds",
            "From handing a message in to its verdict: waiting, look-up, append and fsync.",
            registry=registry,
        )
        self.append = LatencyHistogram(
            "ingress_append_duration_seconds",
            "One group commit: look-up, append and fsync.",
            registry=registry,
        )
