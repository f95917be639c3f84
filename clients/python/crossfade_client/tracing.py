"""The trace context of a request: the caller's, or OpenTelemetry's current span."""

from __future__ import annotations

import sys

from crossfade_client.models import TraceContext

__all__ = ["trace_headers"]


def trace_headers(given: TraceContext | None) -> dict[str, str]:
    """Return the headers ``traceparent`` and ``tracestate`` for a request, if there is a trace."""
    if given is not None:
        headers = {"traceparent": given.traceparent}
        return headers | ({"tracestate": given.tracestate} if given.tracestate else {})
    # A program that has not imported OpenTelemetry has no span, so nothing is imported for it.
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
