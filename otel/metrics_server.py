"""Serve the metrics over HTTP, in OpenMetrics where the scraper asks for it.

The server has a thread of its own: a scrape is answered while the event loop is stalled, which is
when it matters.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import disable_created_metrics, make_wsgi_app

from otel.bounded_server import BoundedServer
from otel.metrics import Metrics
from transport.errors import ConfigurationError

__all__ = ["TARGETS", "MetricsServer", "serve"]

TARGETS = "/metrics/targets"
"""The path that lists every process's metrics address, for Prometheus's HTTP service discovery."""
_TRIES = 200

Targets = Callable[[], bytes | None]
"""Returns these addresses as JSON; ``None`` if they are not known now."""

log = structlog.get_logger(__name__)


class MetricsServer:
    """A running server. Use as a context manager, or call ``close``."""

    def __init__(self, server: BoundedServer, host: str) -> None:
        self.host = host
        self.port: int = server.server_port
        self._server = server
        self._thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to scrape."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(
    metrics: Metrics,
    host: str,
    port: int,
    *,
    targets: Targets = lambda: None,
    connections: int = 32,
    seconds: float = 10.0,
    several: bool = False,
) -> MetricsServer:
    """Serve ``metrics`` at ``host:port``, or at the next free port, which a log line then names.

    9090 is also Prometheus's own port, so on one machine it is often taken.

    Args:
        metrics: The metrics of this process.
        host: The address to listen on.
        port: The first port to try.
        targets: Returns the answer to a request for every process's addresses.
        connections: The most connections at once.
        seconds: The longest that one connection may last.
        several: Whether processes are started together: then a taken port causes no warning.

    Raises:
        ConfigurationError: ``host`` is not an address of this machine, or no port could be bound.
    """
    # Otherwise each counter would have a _created series beside it, which nothing here uses.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    # Any other path than TARGETS gives the metrics.
    application = _with_targets(make_wsgi_app(metrics.registry), targets)
    for candidate in range(port, min(port + _TRIES, 65536)):
        try:
            server = BoundedServer(
                (host, candidate), application, connections=connections, seconds=seconds
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ConfigurationError(
                f"METRICS_HOST={host} METRICS_PORT={candidate} can't be listened on "
                f"({error.strerror}): give an address of this machine, without brackets, and a "
                "port that this user may take"
            ) from error
        if candidate != port and not several:
            log.warning(
                "METRICS_PORT is taken; using the next free one", wanted=port, port=candidate
            )
        return MetricsServer(server, host)
    raise ConfigurationError(
        f"METRICS_PORT={port} and the ports after it, up to {_TRIES}, are taken on {host}: set "
        "METRICS_PORT to another"
    )


def _with_targets(metrics: WSGIApplication, targets: Targets) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != TARGETS:
            try:
                return metrics(environ, start_response)
            except (TypeError, ValueError):  # a version in Accept that the library can't read
                return metrics({**environ, "HTTP_ACCEPT": ""}, start_response)
        answer = targets()
        if answer is None:
            start_response("503 Service Unavailable", [("Retry-After", "5")])
            return [b"The processes can't be listed: PostgreSQL does not answer.\n"]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [answer]

    return application
