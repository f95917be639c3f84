"""Appends are counted, and nothing else."""

from __future__ import annotations

from otel.append_metrics import AppendMetrics
from otel.metrics import Metrics
from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.errors import AppendUnknown


def _envelope(partition: int) -> Envelope:
    return Envelope(f"m{partition}", partition, "c", b"{}", {})


def _count(metrics: Metrics, partition: int) -> float | None:
    return metrics.registry.get_sample_value(
        "stream_enqueue_total", {"transport": "fake", "partition": str(partition)}
    )


def test_appended_records_are_counted_by_partition_and_nothing_else_is(metrics: Metrics):
    outcomes: list[Outcome] = [
        Appended("1"),
        Appended("2"),
        Remembered("0", "", "", ""),
        AppendUnknown("no reply"),
    ]
    appends = AppendMetrics(metrics, "fake", 4)
    envelopes = [_envelope(p) for p in (1, 1, 2, 3)]
    appends.published(envelopes, outcomes, 0)
    appends.interrupted(envelopes, RuntimeError(), 0)
    assert [_count(metrics, p) for p in range(4)] == [0, 2, 0, 0]
