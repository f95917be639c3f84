"""The one place that knows OpenTelemetry's SDK: its sampler, its processor, its exporters.

Spans come to it finished and whole, so none of its objects is made on the way of a request that is
not sampled.
"""

from __future__ import annotations

from otel.tracing.sdk.pipeline import SpanPipeline, pipeline
from otel.tracing.sdk.plugins import reader, sampling

__all__ = ["SpanPipeline", "pipeline", "reader", "sampling"]
