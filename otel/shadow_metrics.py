"""Metrics of the copies for the shadow, fed as an observer of the mirror."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from transport.shadow.observer import BreakerState, ShadowBacklog
from transport.shadow.outcomes import Drop, Sent

__all__ = ["ShadowMetrics"]

_STATES: tuple[BreakerState, ...] = ("closed", "open", "half_open")


class ShadowMetrics:
    """A ``transport.shadow.observer.ShadowObserver``. Its label children exist from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        published = Counter(
            "shadow_publish",
            "Copies for the shadow, by how an attempt ended (appended, remembered, conflict, "
            "failed, unknown, timed_out) or why none will be made (dropped_...).",
            ("outcome",),
            registry=registry,
        )
        self._published = {
            outcome: published.labels(outcome)
            for outcome in (*(sent.value for sent in Sent), *(drop.label for drop in Drop))
        }
        # Read at each scrape, in the scraper's thread: the backlog changes with every message.
        self._backlog = ShadowBacklog()
        Gauge(
            "shadow_queue_depth", "Copies that wait for the shadow.", registry=registry
        ).set_function(lambda: self._backlog.records)
        Gauge(
            "shadow_queue_bytes", "About the memory that waiting copies take.", registry=registry
        ).set_function(lambda: self._backlog.size)
        Gauge(
            "shadow_queue_oldest_age_seconds",
            "Age of the copy that has waited longest; 0 when none waits.",
            registry=registry,
        ).set_function(self._oldest_age)
        breaker = Gauge(
            "shadow_breaker_state",
            "1 for the state that the shadow's circuit breaker is in.",
            ("state",),
            registry=registry,
        )
        self._states = {state: breaker.labels(state) for state in _STATES}
        self.breaker("closed")

    def published(self, outcome: str, records: int) -> None:
        """Count copies that ended with ``outcome``."""
        self._published[outcome].inc(records)

    def waiting(self, backlog: ShadowBacklog) -> None:
        """Set the backlog that the gauges show."""
        self._backlog = backlog

    def breaker(self, state: BreakerState) -> None:
        """Show the breaker's state."""
        for name, gauge in self._states.items():
            gauge.set(name == state)

    def _oldest_age(self) -> float:
        since = self._backlog.oldest_since
        return time.monotonic() - since if since else 0.0
