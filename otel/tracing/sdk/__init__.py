"""The one place that uses OpenTelemetry's SDK: its sampler, its processor, its exporters.

It is given finished spans, so a request that is not sampled makes none of the SDK's objects.
"""

from __future__ import annotations

from otel.tracing.sdk.pipeline import SpanPipeline, pipeline
from otel.tracing.sdk.plugins import reader, sampling

__all__ = ["SpanPipeline", "pipeline", "reader", "sampling"]
