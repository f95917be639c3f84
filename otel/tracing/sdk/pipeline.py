"""The way from our finished spans to the queues of the configured exporters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter
from prometheus_client import CollectorRegistry

from otel.tracing.sdk.lookup import LookUp, collector_host
from otel.tracing.sdk.plugins import exporter
from otel.tracing.sdk.queue import SpanCounts, SpanQueue
from otel.tracing.sdk.readable import SpanConverter
from otel.tracing.sdk.retries import Retries
from otel.tracing.settings import TracingSettings
from otel.tracing.span import Span
from transport.errors import ConfigurationError

__all__ = ["SpanPipeline", "pipeline"]

_log = structlog.get_logger(__name__)


class SpanPipeline:
    """Turns our spans into the SDK's and hands them to its exporters, in threads of its own.

    Args:
        resource: The attributes of this process, which go with every span.
        queues: One for each exporter.
        counts: Counts spans that are lost before a queue has them.
        retries: Shared with ``queues``; ``close`` silences it.
        host: The collector's name, looked up when the pipeline closes.
    """

    def __init__(
        self,
        resource: Resource,
        queues: Sequence[SpanQueue],
        counts: SpanCounts,
        retries: Retries,
        host: str,
    ) -> None:
        self.readable = SpanConverter(resource).readable
        self._queues = queues
        self._counts = counts
        self._retries = retries
        self._host = host

    def record(self, span: Span) -> None:
        """Take a finished span."""
        queues = [queue for queue in self._queues if queue.has_room()]
        if queues:
            try:
                made = self.readable(span)
                for queue in queues:
                    queue.add(made)
            except Exception:  # noqa: BLE001 - must not fail the message that is traced
                self._counts.export_failed.inc()
                _log.exception("Span dropped: unhandled exception", span=span.name)

    def close(self, within: float) -> None:
        """Export queued spans for at most ``within`` seconds; the rest is lost, and counted."""
        self._retries.silence()
        failed = sum(queue.failed for queue in self._queues)
        with ThreadPoolExecutor(max(1, len(self._queues))) as pool:
            look_up = LookUp(self._host)
            ended = list(pool.map(lambda queue: queue.close(within, look_up), self._queues))
        left = sum(
            queue.undelivered for queue, done in zip(self._queues, ended, strict=True) if not done
        )
        self._counts.stopped.inc(left)
        lost = left + sum(queue.failed for queue in self._queues) - failed
        if all(ended):
            self._retries.close()
        if lost:
            _log.warning(
                "The last spans were not delivered",
                spans=lost,
                remedy="the collector is gone, silent or refuses: see OTEL_EXPORTER_OTLP_ENDPOINT",
            )


def pipeline(
    settings: TracingSettings,
    registry: CollectorRegistry,
    *,
    environment: Mapping[str, str],
    resource: Mapping[str, str | int],
    exporters: Sequence[SpanExporter] | None = None,
) -> SpanPipeline:
    """Return the pipeline that ``settings`` ask for.

    Args:
        settings: The exporters and their options.
        registry: Gets the counts of spans.
        environment: ``OTEL_`` variables from elsewhere (``.env``), for the SDK to read.
        resource: Attributes of this process.
        exporters: Take the place of those in ``settings``, for tests.

    Raises:
        ConfigurationError: there is no such exporter, or the SDK can't use a variable.
    """
    counts, retries = SpanCounts(registry), Retries()
    size = settings.otel_bsp_max_queue_size
    with _variables(settings, environment):
        try:
            if exporters is None:
                exporters = [exporter(name, settings) for name in settings.exporters]
            queues = [SpanQueue(target, counts, size, retries) for target in exporters]
            made = SpanPipeline(_resource(resource), queues, counts, retries, _host(settings))
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(f"tracing can't start: {error}") from error
    return made


@contextmanager
def _variables(settings: TracingSettings, environment: Mapping[str, str]) -> Iterator[None]:
    """Let the SDK find ``.env``'s variables in the environment, while it is set up.

    Empty variables, which count as unset, are taken away for that time: it tries to parse some.
    """
    before = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    given = {name: value for name, value in before.items() if value.strip()}
    found = {**environment, **given}
    if settings.compression == "none":  # the exporter for gRPC does not know this value
        found = {name: value for name, value in found.items() if not name.endswith("_COMPRESSION")}
    _replace(found)
    try:
        yield
    finally:
        _replace(before)


def _replace(variables: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ.update(variables)


def _host(settings: TracingSettings) -> str:
    return collector_host(
        settings.otel_exporter_otlp_traces_endpoint or settings.otel_exporter_otlp_endpoint
    )


def _resource(ours: Mapping[str, str | int]) -> Resource:
    given = Resource.create()
    named = not str(given.attributes.get("service.name", "")).startswith("unknown_service")
    return Resource(ours).merge(
        given if named else given.merge(Resource({"service.name": "crossfade"}))
    )
