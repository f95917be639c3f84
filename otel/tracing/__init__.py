"""Traces: where a message is at each moment, from the POST to its row, across processes and logs.

Off unless it is configured in OpenTelemetry's standard way (:mod:`otel.tracing.settings`); what is
off costs nothing but to carry a client's ``traceparent`` along.

The SDK is met in :mod:`otel.tracing.sdk` alone. Everything else describes spans
(:mod:`otel.tracing.span`) and hands them to a function, and only for requests and records that are
sampled: for the others there are no objects, just the 55 characters of a ``traceparent``.
"""
