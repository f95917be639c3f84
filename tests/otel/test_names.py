"""Names, labels and help texts of the metrics: others' dashboards and alerts rest on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from compose.process.metrics import process_metrics

_PROMISED = Path(__file__).with_name("metrics.txt")


def test_the_metrics_of_a_process_are_those_that_are_promised(monkeypatch):
    """A metric that is added or renamed on purpose is added to the file, or renamed in it."""
    assert _shown(monkeypatch) == _PROMISED.read_text("utf-8").splitlines()


def test_none_is_absent_before_it_is_first_counted():
    metrics = process_metrics()
    assert metrics.registry.get_sample_value("ingress_ack_duration_seconds_count") == 0
    assert metrics.registry.get_sample_value("ingress_shed_total") == 0
    persisted = {"status": "persisted"}
    assert metrics.registry.get_sample_value("stream_consumer_processed_total", persisted) == 0


def _shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a line for each metric: type, name, labels, help."""
    registered: list[Any] = []
    register = CollectorRegistry.register

    def noted(registry: CollectorRegistry, collector: Any) -> None:
        registered.append(collector)
        register(registry, collector)

    monkeypatch.setattr(CollectorRegistry, "register", noted)
    process_metrics()
    found = []
    for collector in registered:
        (family,) = collector.describe()
        labels = ",".join(getattr(collector, "_labelnames", ()))
        found.append(f"{family.type} {family.name}{{{labels}}} {family.documentation}")
    return sorted(found)
