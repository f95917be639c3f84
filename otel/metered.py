"""A transport that counts what it appends. Wraps any other, and adds nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from otel.measures import exemplar_of
from otel.metrics import Metrics
from otel.tracing.context import sampled_trace_id
from transport.contract import Appended, Envelope, Outcome, Transport
from transport.envelope import HEADER_TRACEPARENT
from transport.forwarding import Forwarding

__all__ = ["MeteredTransport"]


class MeteredTransport(Forwarding):
    """``inner``, with every append counted in ``stream_enqueue_total``."""

    def __init__(self, inner: Transport, metrics: Metrics) -> None:
        super().__init__(inner)
        # Made once: looking a child up by its labels costs more than counting (and at zero, so
        # that rate() sees the first append).
        self._appended = [
            metrics.enqueued.labels(inner.name, str(p)) for p in range(inner.partitions)
        ]

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append, count, and return the outcomes."""
        outcomes = await self.inner.publish(envelopes, remember=remember)
        per_partition: dict[int, int] = {}
        first: dict[int, Envelope] = {}
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if isinstance(outcome, Appended):
                partition = envelope.partition
                count = per_partition.get(partition, 0)
                per_partition[partition] = count + 1
                if not count:
                    first[partition] = envelope
        for partition, count in per_partition.items():
            trace_id = sampled_trace_id(first[partition].headers.get(HEADER_TRACEPARENT))
            self._appended[partition].inc(count, exemplar_of(trace_id))
        return outcomes
