"""Log lines and counts while a collector refuses the spans."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry

from otel.tracing.sdk.retries import Retries
from tests.tracing.test_standard_variables import begin, one_request

SPANS = 20
LOGGER = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")


@pytest.fixture(autouse=True)
def unfiltered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the filters of other tests' pipelines that could not end in time."""
    monkeypatch.setattr(LOGGER, "filters", [])


class _Refuses(BaseHTTPRequestHandler):
    status = 401

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        if self.status == 308:
            self.send_header("Location", "https://traces.example/v1/traces?key=s3cret")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Redirects(_Refuses):
    status = 308


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), getattr(request, "param", _Refuses))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_collector_that_refuses_every_export_does_not_fill_the_log(
    refusing, monkeypatch, caplog, eventually
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refusing)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    registry = CollectorRegistry()
    tracing = begin(registry)
    for _ in range(SPANS):
        one_request(tracing)

    def lost() -> float | None:
        return registry.get_sample_value("trace_spans_dropped_total", {"reason": "export_failed"})

    asyncio.run(eventually(lambda: lost() == SPANS))
    lines = [record.getMessage() for record in caplog.records if "401" in record.getMessage()]
    tracing.close(30)
    assert len(lines) == 1


@pytest.mark.parametrize("refusing", [_Redirects], indirect=True)
def test_a_redirect_is_a_failure_that_names_the_other_address(
    refusing, monkeypatch, caplog, eventually
):
    """As an ingress answers that serves https alone; the exporter follows none."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refusing)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    registry = CollectorRegistry()
    tracing = begin(registry)
    one_request(tracing)
    lost = "trace_spans_dropped_total"
    asyncio.run(
        eventually(lambda: registry.get_sample_value(lost, {"reason": "export_failed"}) == 1)
    )
    tracing.close(30)
    assert registry.get_sample_value("trace_spans_exported_total") == 0
    assert "308, a redirect to https://traces.example;" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_line_has_the_number_of_those_left_out_before_it(caplog):
    times = iter([0.0, 1.0, 59.0, 60.0, 61.0, 62.0])
    with closing(Retries(clock=lambda: next(times))):
        for _ in range(5):
            LOGGER.error("Failed to export %s batch code: %s", "spans", 401)
        LOGGER.error("Another failure")
    assert [vars(record).get("left_out") for record in caplog.records] == [None, 2, None]
