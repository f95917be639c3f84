"""Tracing into memory: the spans that the SDK's exporters would get."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link
from prometheus_client import CollectorRegistry

from otel.tracing import sdk
from otel.tracing.endpoints import Endpoints
from otel.tracing.settings import TracingSettings
from otel.tracing.start import On
from transport.settings import TransportSettings

__all__ = ["Tracing", "hexadecimal", "identity", "linked", "parent"]


def hexadecimal(number: int | None, digits: int = 16) -> str:
    return "" if number is None else f"{number:0{digits}x}"


def parent(span: ReadableSpan) -> str:
    return hexadecimal(span.parent.span_id if span.parent else None)


def identity(span: ReadableSpan | Link) -> str:
    return hexadecimal(span.context.span_id)


def linked(span: ReadableSpan) -> list[str]:
    return [identity(link) for link in span.links]


class Tracing:
    """Enabled tracing, with all recorded spans."""

    def __init__(
        self, *names: str, transports: TransportSettings | None = None, **settings: str
    ) -> None:
        self._exporter = InMemorySpanExporter()
        chosen = TracingSettings(**settings)
        pipeline = sdk.pipeline(
            chosen, CollectorRegistry(), environment={}, resource={}, exporters=[]
        )
        transports = transports or TransportSettings()
        self.on = On(
            lambda span: self._exporter.export([pipeline.readable(span)]),
            sdk.sampling(chosen),
            Endpoints(transports),
            names[0],
            read=sdk.reader(chosen),
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda s: (s.start_time, s.end_time))

    def of(self, trace_id: str) -> list[ReadableSpan]:
        """Return the spans of one trace, by when they began."""
        return [s for s in self.spans if hexadecimal(s.context.trace_id, 32) == trace_id]

    def named(self, name: str, among: Iterable[ReadableSpan] | None = None) -> list[ReadableSpan]:
        return [s for s in (self.spans if among is None else among) if s.name == name]

    def one(self, name: str, among: Iterable[ReadableSpan] | None = None) -> ReadableSpan:
        found = self.named(name, among)
        assert len(found) == 1, (name, [s.name for s in self.spans])
        return found[0]

    def clear(self) -> None:
        self._exporter.clear()
