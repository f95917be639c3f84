"""Traces: the steps of a message from the POST to its row, across processes and logs.

Off unless it is configured in OpenTelemetry's standard way (``otel.tracing.settings``). While it
is off, it costs nothing but to carry a client's ``traceparent`` along.

The SDK is met in ``otel.tracing.sdk`` alone. Everything else describes spans
(``otel.tracing.span``) and hands them to a function, and only for requests and records that are
sampled: for the others there are no objects, just the 55 characters of a ``traceparent``.
"""
