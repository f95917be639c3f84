"""The queue of one exporter: the SDK's batching processor, with exported and lost spans counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Counter

from otel.tracing.sdk.lookup import LookUp
from otel.tracing.sdk.retries import Retries

__all__ = ["SpanCounts", "SpanQueue"]

_LOOK_AGAIN = 0.02  # seconds
_LOOK_UP_SECONDS = 1.0


class SpanCounts:
    """Metrics of spans: exported and dropped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.exported = Counter(
            "trace_spans_exported", "Spans that an exporter has taken.", registry=registry
        )
        dropped = Counter(
            "trace_spans_dropped",
            "Spans that were lost: the queue was full, an export failed, or the process ended.",
            ("reason",),
            registry=registry,
        )
        self.queue_full = dropped.labels("queue_full")
        self.export_failed = dropped.labels("export_failed")
        self.stopped = dropped.labels("stopped")


class _Counted(SpanExporter):
    """An exporter whose batches are counted by their outcome."""

    def __init__(self, inner: SpanExporter, counts: SpanCounts, retries: Retries) -> None:
        self._inner = inner
        self._counts = counts
        self._retries = retries
        self.taken = 0
        """Number of spans that it was given so far."""
        self.delivered = 0
        self.failed = 0
        """Of these, how many were delivered, and how many were not."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            with self._retries.noticed():
                result = self._inner.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self._retries.ended()
                self.delivered += len(spans)
                self._counts.exported.inc(len(spans))
            else:
                self.failed += len(spans)
                self._counts.export_failed.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class SpanQueue:
    """The queue of one exporter: holds ``size`` spans at most, and counts those that it loses."""

    def __init__(
        self, exporter: SpanExporter, counts: SpanCounts, size: int, retries: Retries
    ) -> None:
        self._counted = _Counted(exporter, counts, retries)
        self._retries = retries
        self._processor: SpanProcessor = BatchSpanProcessor(self._counted)
        self._counts = counts
        self._size = size
        self._given = 0

    def has_room(self) -> bool:
        """Return whether a span can be added; count it as lost if not.

        Call it before ``add``: the SDK's processor logs each span that it drops, which takes time.
        """
        if self._given - self._counted.taken < self._size:
            return True
        self._counts.queue_full.inc()
        return False

    def add(self, span: ReadableSpan) -> None:
        """Add a span for which there is room."""
        self._given += 1
        self._processor.on_end(span)

    @property
    def undelivered(self) -> int:
        """Number of spans that were neither delivered nor given up."""
        return self._given - self._counted.delivered - self._counted.failed

    @property
    def failed(self) -> int:
        """Number of spans that the exporter could not deliver."""
        return self._counted.failed

    def close(self, within: float, look_up: LookUp) -> bool:
        """Export queued spans, and end; return whether it ended within ``within`` seconds.

        A collector that is gone delays no stop: spans that would need a retry are given up, and all
        spans if ``look_up`` finds no address.
        """
        # A daemon: an exporter that hangs must not hold up the end of the process.
        ending = threading.Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        deadline = time.monotonic() + within
        while ending.is_alive() and time.monotonic() < deadline:
            if self._retries.under_way:
                self._counted.shutdown()  # ends the wait before the next try
                ending.join(max(0.0, deadline - time.monotonic()))
            elif look_up.is_without_answer(_LOOK_UP_SECONDS):
                return False
            ending.join(_LOOK_AGAIN)
        return not ending.is_alive()
