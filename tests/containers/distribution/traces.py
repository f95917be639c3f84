"""Stand in for Jaeger: take spans over OTLP/HTTP (4318), give a trace by its id (16686)."""

import gzip
import json
import signal
import sys
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

TRACES = defaultdict(list)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in group.scope_spans:
                for span in scope.spans:
                    one = {"spanID": span.span_id.hex(), "operationName": span.name}
                    TRACES[span.trace_id.hex()].append(one)
        self.answer(200, "application/x-protobuf", ExportTraceServiceResponse().SerializeToString())

    def do_GET(self):
        trace = self.path.rpartition("/")[2]
        if trace not in TRACES:
            self.answer(404, "application/json", b'{"data": null}')
        elif self.path.startswith("/api/traces/"):
            found = {"data": [{"traceID": trace, "spans": TRACES[trace]}]}
            self.answer(200, "application/json", json.dumps(found).encode())
        else:
            self.answer(200, "text/html", f"<title>{trace}</title>".encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


for port in (4318, 16686):
    Thread(target=ThreadingHTTPServer(("", port), Handler).serve_forever, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
