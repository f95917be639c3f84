"""One process that listens as the service does, for tests that flood it.

``python -m tests.hostile.http.server`` prints the port of its API and that of its metrics. Its log
is memory and its PostgreSQL away; the limit of open files is the first argument.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import uvloop

from compose.local.ports import free_port
from compose.process.http_server import serve
from compose.process.listening_socket import bind
from compose.process.metrics import process_metrics
from otel import metrics_server
from otel.logging import configure
from otel.settings import OtelSettings
from tests.hostile.http.conftest import ingress_app


async def _run() -> None:
    bound = bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    with metrics_server.serve(process_metrics(), "127.0.0.1", free_port()) as metrics:

        def started() -> None:
            sys.stdout.write(f"{port} {metrics.port}\n")
            sys.stdout.flush()

        async with ingress_app(
            ingress_head_timeout_ms=2_000,
            ingress_body_timeout_ms=2_000,
            ingress_write_timeout_ms=2_000,
        ) as app:
            await serve(app, bound, asyncio.Event(), grace_seconds=1, started=started)


if __name__ == "__main__":
    files = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    configure(OtelSettings(log_level="ERROR"))
    uvloop.run(_run())
