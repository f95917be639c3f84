"""Tracing of one process: the observers of its parts, on or off."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry

from otel.tracing.append_spans import AppendSpans
from otel.tracing.deliveries import Deliveries, TracedDeliveries
from otel.tracing.endpoints import Endpoints
from otel.tracing.requests import PassOn, Read, Requests, Tracer
from otel.tracing.sampling import Sampling
from otel.tracing.settings import TracingSettings
from otel.tracing.span import Endpoint, Record
from transport.errors import ConfigurationError
from transport.features.observed import AppendObserver
from transport.settings import TransportSettings

__all__ = ["CLOSE_SECONDS", "OFF", "Tracing", "start"]

CLOSE_SECONDS = 5.0
"""Seconds for which a process that ends waits for the collector."""


class Tracing:
    """Tracing that is off: nothing is recorded."""

    requests: Tracer = PassOn()
    deliveries = Deliveries()

    def append_observers(self, log: str) -> Sequence[AppendObserver]:  # noqa: ARG002 - for On
        """Return the observers of appends to ``log``: none."""
        return ()

    def close(self, within: float = CLOSE_SECONDS) -> None:
        """Export queued spans, for at most ``within`` seconds. Blocks."""


OFF = Tracing()


class On(Tracing):
    """Tracing that is on.

    Args:
        record: takes finished spans.
        sampling: decides which traces are recorded.
        endpoints: the address of each log, by its name.
        primary: the name of the log that messages are created for.
        read: reads the context of a request; by default, from W3C's headers.
        close: exports queued spans, for at most the seconds that it is given.
    """

    def __init__(
        self,
        record: Record,
        sampling: Sampling,
        endpoints: Mapping[str, Endpoint],
        primary: str,
        *,
        read: Read | None = None,
        close: Callable[[float], None] | None = None,
    ) -> None:
        self._record = record
        self._sampling = sampling
        self._endpoints = endpoints
        self._close = close
        self.requests = Requests(record, sampling, endpoints[primary], read)
        self.deliveries = TracedDeliveries(record, sampling, endpoints)

    def append_observers(self, log: str) -> Sequence[AppendObserver]:
        """Return the observers of appends to ``log``."""
        return (AppendSpans(self._record, self._sampling, self._endpoints[log]),)

    def close(self, within: float = CLOSE_SECONDS) -> None:
        """Export queued spans, for at most ``within`` seconds. Blocks."""
        if self._close is not None:
            self._close(within)


def start(
    settings: TracingSettings,
    transports: TransportSettings,
    registry: CollectorRegistry,
    *,
    environment: Mapping[str, str],
) -> Tracing:
    """Start tracing as ``settings`` ask for, for the logs that ``transports`` name.

    Call it in the process that does the work: exporters have threads, and a fork copies no threads.

    Raises:
        ConfigurationError: an exporter, sampler or propagator is not installed, or the SDK is
            missing, or the SDK can't use a variable.
    """
    if not settings.exporters:
        return OFF
    try:
        from otel.tracing import sdk  # noqa: PLC0415 - a quarter of a second, and not always there
    except ImportError as error:
        raise ConfigurationError(
            f"tracing is configured (OTEL_TRACES_EXPORTER={','.join(settings.exporters)}) and "
            f"{error.name} is missing; install it with pip install 'crossfade[tracing]', or set "
            "OTEL_TRACES_EXPORTER=none"
        ) from error
    except ValueError as error:  # it reads the limits of spans when it is imported
        raise ConfigurationError(f"tracing can't start: {error}") from error
    resource: dict[str, str | int] = {
        "service.version": version("crossfade"),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    sampling, read = sdk.sampling(settings), sdk.reader(settings)
    made = sdk.pipeline(settings, registry, environment=environment, resource=resource)
    primary = transports.transport
    return On(made.record, sampling, Endpoints(transports), primary, read=read, close=made.close)
