"""A transport that counts what it appends. Wraps any other, and adds nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from otel.measures import exemplar_of
from otel.metrics import Metrics
from otel.tracing.context import sampled_trace_id
from transport.contract import (
    Appended,
    Consumer,
    DeadLetter,
    Envelope,
    Outcome,
    Progress,
    Record,
    Remembered,
    Topic,
    Transport,
)
from transport.envelope import HEADER_TRACEPARENT

__all__ = ["MeteredTransport"]


class MeteredTransport:
    """``inner``, with every append counted in ``stream_enqueue_total``."""

    def __init__(self, inner: Transport, metrics: Metrics) -> None:
        self.inner = inner
        self.name = inner.name
        self.partitions = inner.partitions
        self.features = inner.features
        # Made once: looking a child up by its labels costs more than counting (and at zero, so
        # that rate() sees the first append).
        self._appended = [
            metrics.enqueued.labels(inner.name, str(p)) for p in range(inner.partitions)
        ]

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.inner.__aexit__(*exc)

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

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """As the inner transport."""
        return await self.inner.recall(message_ids)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """As the inner transport. Workers count dead letters, once they are acknowledged."""
        await self.inner.dead_letter(letters)

    def consume(self, topic: Topic, *, group: str, member: str) -> Consumer:
        """As the inner transport."""
        return self.inner.consume(topic, group=group, member=member)

    async def read(
        self, topic: Topic, partition: int, *, after: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """As the inner transport."""
        return await self.inner.read(topic, partition, after=after, limit=limit)

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """As the inner transport."""
        return await self.inner.progress(topic, group=group)

    def sort_key(self, offset: str) -> tuple[int, ...]:
        """As the inner transport."""
        return self.inner.sort_key(offset)

    async def ping(self) -> None:
        """As the inner transport."""
        await self.inner.ping()
