"""The present value of a process's counter or gauge."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

__all__ = ["value_of"]


def value_of(metric: Counter | Gauge) -> float:
    """Return the value of ``metric``; if it has labels, pass the child of one label."""
    (value,) = (
        sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    )
    return value
