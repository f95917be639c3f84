"""Traces: the steps of a message from the POST to its row, across processes and logs.

Off unless it is configured in OpenTelemetry's standard way (``otel.tracing.settings``). While it is
off, its only cost is to carry a client's ``traceparent`` along.

Only ``otel.tracing.sdk`` uses the SDK. The other modules describe spans (``otel.tracing.span``) and
hand them to a function, and only for requests and records that are sampled. The others need no
objects, just the 55 characters of a ``traceparent``.
"""
