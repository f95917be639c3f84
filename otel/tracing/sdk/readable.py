"""The conversion of our finished spans into those that the SDK's exporters take."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otel.tracing.span import OperationKind, Span

__all__ = ["SpanConverter"]

_KINDS = {kind: SpanKind(kind.value) for kind in OperationKind}
_FAILED = StatusCode.ERROR
_UNSET = Status(StatusCode.UNSET)
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE = TraceState()


class SpanConverter:
    """Makes the SDK's spans, for one ``resource``, within the limits that OTEL_ variables set."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        limits = SpanLimits()
        self._most_links = limits.max_links
        self._most_attributes = limits.max_span_attributes
        self._longest = limits.max_span_attribute_length
        self._scope = InstrumentationScope("crossfade", version("crossfade"), _SCHEMA)

    def readable(self, span: Span) -> ReadableSpan:
        """Return ``span`` as a span of the SDK."""
        trace_state = TraceState.from_header([span.state]) if span.state else _NO_STATE
        flags, trace_id = _SAMPLED, span.trace_id
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(trace_id, span.parent_id, span.remote, flags, trace_state)
        links = [
            Link(SpanContext(link.trace_id, link.span_id, is_remote=True, trace_flags=flags))
            for link in span.links[: self._most_links]
        ]
        attributes: Any = span.attributes
        status = _UNSET
        if span.error is not None:
            attributes["error.type"] = span.error
            status = Status(_FAILED, span.error)
        if (longest := self._longest) is not None:
            # Cut here: the SDK logs a line for each value that it cuts.
            attributes = {
                name: value[:longest] if isinstance(value, str) else value
                for name, value in attributes.items()
            }
        most = self._most_attributes
        if most is not None and len(attributes) > most:
            attributes = BoundedAttributes(most, attributes)
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
