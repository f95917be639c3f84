"""The decorator counts appends, and only appends."""

from __future__ import annotations

from typing import Any

from otel.metered import MeteredTransport
from otel.metrics import Metrics
from transport.contract import Appended, Envelope, Features, Remembered
from transport.errors import AppendUnknown


class _Answers:
    """Answers a publish with what it is given: the counting is what is under test."""

    name = "fake"
    partitions = 4
    features = Features(remembers=True, durable=True, counts_deliveries=True, shared=True)

    def __init__(self, outcomes: list[Any]) -> None:
        self._outcomes = outcomes

    async def publish(self, envelopes, *, remember=True):
        return self._outcomes


def _envelope(partition: int) -> Envelope:
    return Envelope(f"m{partition}", partition, "c", b"{}", {})


def _count(metrics: Metrics, partition: int) -> float | None:
    return metrics.registry.get_sample_value(
        "stream_enqueue_total", {"transport": "fake", "partition": str(partition)}
    )


async def test_appended_records_are_counted_by_partition_and_nothing_else_is(metrics: Metrics):
    outcomes = [
        Appended("1"),
        Appended("2"),
        Remembered("0", "", "", ""),
        AppendUnknown("no reply"),
    ]
    metered = MeteredTransport(_Answers(outcomes), metrics)  # type: ignore[arg-type]
    envelopes = [_envelope(p) for p in (1, 1, 2, 3)]
    assert await metered.publish(envelopes) == outcomes
    assert [_count(metrics, p) for p in range(4)] == [0, 2, 0, 0]
