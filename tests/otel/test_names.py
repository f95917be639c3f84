"""Names, labels and help texts of the metrics: others' dashboards and alerts rest on them."""

from __future__ import annotations

from pathlib import Path

from compose.process.metrics import process_metrics

_PROMISED = Path(__file__).with_name("metrics.txt")


def test_the_metrics_of_a_process_are_those_that_are_promised():
    """A metric that is added or renamed on purpose is added to the file, or renamed in it."""
    assert _shown() == _PROMISED.read_text("utf-8").splitlines()


def test_none_is_absent_before_it_is_first_counted():
    metrics = process_metrics()
    assert metrics.registry.get_sample_value("ingress_ack_duration_seconds_count") == 0
    assert metrics.registry.get_sample_value("ingress_shed_total") == 0
    persisted = {"status": "persisted"}
    assert metrics.registry.get_sample_value("stream_consumer_processed_total", persisted) == 0


def _shown() -> list[str]:
    """Return a line for each metric: type, name, labels, help."""
    found = []
    registry = process_metrics().registry
    for collector in registry._collector_to_names:
        (family,) = collector.describe()
        labels = ",".join(getattr(collector, "_labelnames", ()))
        found.append(f"{family.type} {family.name}{{{labels}}} {family.documentation}")
    return sorted(found)
