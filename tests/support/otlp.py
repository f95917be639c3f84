"""A real OTLP receiver, over gRPC and over HTTP: OpenTelemetry's own service on sockets of ours."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.support.certificates import Certificate

__all__ = ["Collector", "Received", "Tls", "receiver"]

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class Received:
    """A received span; its ids are in hexadecimal."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    failed: bool
    start: int
    end: int
    state: str
    resource: dict[str, Any]


@dataclass
class Collector:
    """The spans and requests that a receiver got. Its threads append to it."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request."""
    paths: list[str] = field(default_factory=list)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_received(span, resource) for span in scope.spans]

    def of(self, trace_id: str) -> list[Received]:
        """Return the spans of one trace, by when they began."""
        return sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda s: s.start)


def _received(span: Any, resource: dict[str, Any]) -> Received:
    return Received(
        span.name,
        _KINDS[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _attributes(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.status.code == 2,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.trace_state,
        resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@dataclass(frozen=True)
class Tls:
    """A receiver's own certificate, and the authority of the certificate that senders must show."""

    server: Certificate
    client: Certificate


@contextmanager
def receiver(protocol: str, tls: Tls | None = None) -> Iterator[Collector]:
    """Receive ``grpc`` or ``http/protobuf`` on a free loopback port."""
    collector = Collector()
    with (_grpc if protocol == "grpc" else _http)(collector, tls):
        yield collector


@contextmanager
def _grpc(collector: Collector, tls: Tls | None) -> Iterator[None]:
    class Service(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            collector.headers.append(dict(context.invocation_metadata()))
            collector.paths.append("grpc")
            collector.take(request)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_TraceServiceServicer_to_server(Service(), server)
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
        collector.endpoint = f"http://127.0.0.1:{port}"
    else:
        credentials = grpc.ssl_server_credentials(
            [(tls.server.key.read_bytes(), tls.server.certificate.read_bytes())],
            root_certificates=tls.client.certificate.read_bytes(),
            require_client_auth=True,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        collector.endpoint = f"https://127.0.0.1:{port}"
    server.start()
    try:
        yield
    finally:
        server.stop(grace=None).wait()


@contextmanager
def _http(collector: Collector, tls: Tls | None) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.headers.append({k.lower(): v for k, v in self.headers.items()})
            collector.paths.append(self.path)
            collector.take(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.client.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls.server.certificate, tls.server.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        collector.endpoint = f"https://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
