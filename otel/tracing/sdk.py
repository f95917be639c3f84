"""The one place that knows OpenTelemetry's SDK: its sampler, its processor, its exporters.

Spans come to it finished and whole, so none of its objects is made on the way of a request that is
not sampled.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points, version
from typing import Any

import structlog
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Decision, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from prometheus_client import CollectorRegistry, Counter

from otel.tracing.context import SAMPLED, Parent
from otel.tracing.lookup import LookUp, collector_host
from otel.tracing.requests import Headers, Read
from otel.tracing.retries import Retries
from otel.tracing.sampling import EVERY, Sampling
from otel.tracing.settings import SAMPLERS, TracingSettings
from otel.tracing.span import OperationKind, Span
from transport.errors import ConfigurationError

__all__ = ["Pipeline", "pipeline", "reader", "sampling"]

_log = structlog.get_logger(__name__)

_KINDS = {kind: SpanKind(kind.value) for kind in OperationKind}
_FAILED = StatusCode.ERROR
_UNSET = Status(StatusCode.UNSET)
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_PARENT_BASED = "parentbased_"
_LOOK_AGAIN = 0.02  # seconds
_LOOK_UP_SECONDS = 1.0
_EXTRA = "install it with pip install 'crossfade[tracing]'"


class Spans:
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

    def __init__(self, inner: SpanExporter, spans: Spans, retries: Retries) -> None:
        self._inner = inner
        self._spans = spans
        self._retries = retries
        self.taken = 0
        """Spans it has been handed so far."""
        self.delivered = 0
        self.failed = 0
        """Spans of those, by what became of them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self._retries.ended()
                self.delivered += len(spans)
                self._spans.exported.inc(len(spans))
            else:
                self.failed += len(spans)
                self._spans.export_failed.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Queue:
    """The SDK's batching processor in front of one exporter, and how many spans it has lost."""

    def __init__(self, exporter: SpanExporter, spans: Spans, size: int, retries: Retries) -> None:
        self._counted = _Counted(exporter, spans, retries)
        self._retries = retries
        self._processor: SpanProcessor = BatchSpanProcessor(self._counted)
        self._spans = spans
        self._size = size
        self._given = 0

    def has_room(self) -> bool:
        """Return whether a span can be added; count it as lost if not.

        Asked first, because the processor takes its time to throw one away: it logs each.
        """
        if self._given - self._counted.taken < self._size:
            return True
        self._spans.queue_full.inc()
        return False

    def add(self, span: ReadableSpan) -> None:
        """Add a span for which there is room."""
        self._given += 1
        self._processor.on_end(span)

    @property
    def unsettled(self) -> int:
        """How many spans have neither been delivered nor given up."""
        return self._given - self._counted.delivered - self._counted.failed

    @property
    def failed(self) -> int:
        """How many spans the exporter could not deliver."""
        return self._counted.failed

    def close(self, within: float, look_up: LookUp) -> bool:
        """Export queued spans, and end; return whether it ended in that many seconds.

        A collector that is gone delays no stop: what has to be tried again is given up, and all of
        it where ``look_up`` finds no address.
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


class Pipeline:
    """Turns our spans into the SDK's and hands them to its exporters, in threads of its own."""

    def __init__(
        self,
        resource: Resource,
        queues: Sequence[_Queue],
        spans: Spans,
        retries: Retries,
        host: str,
    ) -> None:
        self._resource = resource
        self._queues = queues
        self._spans = spans
        self._retries = retries
        self._host = host
        limits = SpanLimits()
        self._most_links = limits.max_links
        self._most_attributes = limits.max_span_attributes
        self._longest = limits.max_span_attribute_length
        self._scope = InstrumentationScope("crossfade", version("crossfade"), _SCHEMA)

    def record(self, span: Span) -> None:
        """Take a finished span."""
        queues = [queue for queue in self._queues if queue.has_room()]
        if queues:
            try:
                made = self.readable(span)
                for queue in queues:
                    queue.add(made)
            except Exception:  # noqa: BLE001 - logged with its traceback
                # A mistake here must not become the fate of the message that is traced.
                self._spans.export_failed.inc()
                _log.exception("Span dropped: unhandled exception", span=span.name)

    def readable(self, span: Span) -> ReadableSpan:
        """Return a span as the SDK's exporters have it."""
        trace_state = TraceState.from_header([span.state]) if span.state else _NO_STATE
        flags, trace_id = _SAMPLED, span.trace_id
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(trace_id, span.parent_id, span.remote, flags, trace_state)
        links = [
            Link(SpanContext(one.trace_id, one.span_id, is_remote=True, trace_flags=flags))
            for one in span.links[: self._most_links]
        ]
        attributes: Any = span.attributes
        status = _UNSET
        if span.error is not None:
            attributes["error.type"] = span.error
            status = Status(_FAILED, span.error)
        most = self._most_attributes
        if self._longest is not None or (most is not None and len(attributes) > most):
            attributes = BoundedAttributes(most, attributes, max_value_len=self._longest)
        return ReadableSpan(
            span.name,
            SpanContext(trace_id, span.span_id, is_remote=False, trace_flags=flags,
                        trace_state=trace_state),
            parent,
            self._resource,
            attributes,
            links=links,
            kind=_KINDS[span.kind],
            status=status,
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )  # fmt: skip

    def close(self, within: float) -> None:
        """Export queued spans for at most ``within`` seconds; the rest is lost, and counted."""
        self._retries.silence()
        failed = sum(queue.failed for queue in self._queues)
        with ThreadPoolExecutor(max(1, len(self._queues))) as pool:
            look_up = LookUp(self._host)
            ended = list(pool.map(lambda queue: queue.close(within, look_up), self._queues))
        left = sum(
            queue.unsettled for queue, done in zip(self._queues, ended, strict=True) if not done
        )
        self._spans.stopped.inc(left)
        lost = left + sum(queue.failed for queue in self._queues) - failed
        if all(ended):
            self._retries.close()
        if lost:
            _log.warning(
                "The last spans were not delivered",
                spans=lost,
                remedy="the collector is gone or does not answer: see OTEL_EXPORTER_OTLP_ENDPOINT",
            )


_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE = TraceState()


def pipeline(
    settings: TracingSettings,
    registry: CollectorRegistry,
    *,
    environment: Mapping[str, str],
    resource: Mapping[str, str],
    exporters: Sequence[SpanExporter] | None = None,
) -> Pipeline:
    """Return the pipeline that ``settings`` ask for (``exporters`` go before theirs, in tests).

    ``environment`` holds ``OTEL_`` variables that the process's own has not: the SDK reads them.
    ``resource`` is what every span is to say of this process.

    Raises:
        ConfigurationError: there is no such exporter.
    """
    with _variables(environment):
        spans = Spans(registry)
        if exporters is None:
            exporters = [_exporter(name, settings.protocol) for name in settings.exporters]
        size, retries = settings.otel_bsp_max_queue_size, Retries()
        queues = [_Queue(one, spans, size, retries) for one in exporters]
        endpoint = (
            settings.otel_exporter_otlp_traces_endpoint or settings.otel_exporter_otlp_endpoint
        )
        return Pipeline(_resource(resource), queues, spans, retries, collector_host(endpoint))


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Put variables that came from ``.env`` where the SDK reads them, while it is set up."""
    added = [name for name in environment if name not in os.environ]
    os.environ.update({name: environment[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _resource(ours: Mapping[str, str]) -> Resource:
    given = Resource.create()
    named = not str(given.attributes.get("service.name", "")).startswith("unknown_service")
    return Resource(ours).merge(
        given if named else given.merge(Resource({"service.name": "crossfade"}))
    )


def _exporter(name: str, protocol: str) -> SpanExporter:
    if name == "otlp":
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    kind = _registered("opentelemetry_traces_exporter", name)
    if kind is None:
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER: there is no exporter {name!r} here; choose otlp, console or "
            f"none, or {_EXTRA}"
        )
    if name == "console":
        return ConsoleSpanExporter(out=sys.stdout)  # now, and not when the SDK was imported
    exporter: SpanExporter = kind()
    return exporter


def sampling(settings: TracingSettings) -> Sampling:
    """Return a sampler's decisions: of those built in as two facts, of another as a question.

    Raises:
        ConfigurationError: there is no such sampler.
    """
    name, argument = settings.otel_traces_sampler, settings.otel_traces_sampler_arg
    if name in SAMPLERS:
        bounds = {
            "always_on": EVERY,
            "always_off": 0,
            "traceidratio": TraceIdRatioBased(float(argument or 1.0)).bound,
        }
        return Sampling(bounds[name.removeprefix(_PARENT_BASED)], name.startswith(_PARENT_BASED))
    factory = _registered("opentelemetry_traces_sampler", name)
    if factory is None:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER={name!r} is not a sampler; choose one of {', '.join(SAMPLERS)}, "
            "or install the package that registers it"
        )
    return Sampling(0, parent_based=False, ask=partial(_ask, factory(argument)))


def _ask(sampler: Sampler, trace_id: int, parent: Parent | None) -> bool:
    context = None
    if parent is not None:
        flags = TraceFlags(parent.flags & SAMPLED)
        remote = SpanContext(trace_id, parent.span_id, is_remote=True, trace_flags=flags)
        context = set_span_in_context(NonRecordingSpan(remote))
    result = sampler.should_sample(context, trace_id, "POST /api/messages", SpanKind.SERVER, {})
    return result.decision is Decision.RECORD_AND_SAMPLE


def reader(settings: TracingSettings) -> Read | None:
    """Return the propagator that ``OTEL_PROPAGATORS`` names; ``None`` for our parser of W3C's.

    Raises:
        ConfigurationError: there is no such propagator.
    """
    names = settings.propagators
    if names == ["tracecontext"]:
        return None
    propagators: list[TextMapPropagator] = []
    for name in names:
        kind = _registered("opentelemetry_propagator", name)
        if kind is None:
            raise ConfigurationError(
                f"OTEL_PROPAGATORS: there is no propagator {name!r} here; install the package that "
                "registers it, or leave it out"
            )
        propagators.append(kind())
    return partial(_read, propagators)


def _read(propagators: Sequence[TextMapPropagator], headers: Headers) -> Parent | None:
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    for propagator in propagators:
        found = get_current_span(propagator.extract(carrier, Context())).get_span_context()
        if found.is_valid:
            state = found.trace_state.to_header() or None
            return Parent(found.trace_id, found.span_id, int(found.trace_flags), state)
    return None


def _registered(group: str, name: str) -> Any:
    found = entry_points(group=group, name=name)
    return next(iter(found)).load() if found else None
