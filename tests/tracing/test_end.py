"""The end of a process whose collector is gone, slow, or silent."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import structlog
from prometheus_client import CollectorRegistry

from compose.local.ports import free_port
from otel.tracing.sdk.lookup import LookUp, collector_host
from otel.tracing.sdk.retries import Retries
from otel.tracing.start import Tracing
from tests.tracing.test_standard_variables import PROTOCOLS, begin, one_request

FOR_EVER = 100.0  # seconds; exporters go on trying for half a minute


def _to(port: int, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(FOR_EVER))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # nothing goes out before the end


def _closed(tracing: Tracing, within: float) -> float:
    began = time.monotonic()
    tracing.close(within)
    return time.monotonic() - began


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_gone_delays_no_stop(protocol, monkeypatch, caplog):
    _to(free_port(), protocol, monkeypatch)
    registry = CollectorRegistry()
    tracing = begin(registry)
    one_request(tracing)
    with structlog.testing.capture_logs() as said:
        assert _closed(tracing, FOR_EVER) < 20
    (told,) = said
    assert (told["event"], told["log_level"]) == ("The last spans were not delivered", "warning")
    assert told["spans"] == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in told["remedy"]
    assert [record for record in caplog.records if "opentelemetry" in record.name] == []
    lost = registry.get_sample_value("trace_spans_dropped_total", {"reason": "export_failed"})
    assert lost == 1


def test_a_collector_that_is_gone_is_noticed_where_errors_alone_are_logged(monkeypatch, caplog):
    caplog.set_level("ERROR")
    _to(free_port(), "http/protobuf", monkeypatch)
    tracing = begin()
    one_request(tracing)
    assert _closed(tracing, FOR_EVER) < 20
    assert caplog.records == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_silent_is_waited_for_as_long_as_is_said(protocol, monkeypatch):
    """It may only be slow: what it has been sent is not thrown away before the time is up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _to(silent.getsockname()[1], protocol, monkeypatch)
        registry = CollectorRegistry()
        tracing = begin(registry)
        one_request(tracing)
        assert 1 <= _closed(tracing, 1) < 20


def test_another_pipelines_retries_are_not_taken_for_ones_own():
    """An exporter may outlive its pipeline, and goes on telling of its retries."""
    with closing(Retries()) as ours, ThreadPoolExecutor(1) as other:
        logger = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
        with ours.noticed():
            other.submit(logger.warning, "Transient error %s", "UNAVAILABLE").result()
            assert not ours.under_way
            logger.warning("Transient error %s", "UNAVAILABLE")
            assert ours.under_way
        ours.ended()
        logger.warning("Transient error %s", "UNAVAILABLE")
        assert not ours.under_way


def test_a_collector_without_an_address_is_not_waited_for(monkeypatch):
    """As in containers whose collector is stopped: its name is gone."""
    _to(free_port(), "http/protobuf", monkeypatch)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://no-such-host.invalid:4318")
    tracing = begin()
    one_request(tracing)
    with structlog.testing.capture_logs() as said:
        assert _closed(tracing, FOR_EVER) < 20
    assert [line["spans"] for line in said] == [1]


def test_an_exporter_that_never_ended_hides_no_retries_of_the_next():
    hung, later = Retries(), None
    try:
        hung.silence()
        later = Retries()
        name = "opentelemetry.exporter.otlp.proto.grpc.exporter"
        with later.noticed():
            logging.getLogger(name).warning("Transient error UNAVAILABLE")
        assert later.under_way
    finally:
        for retries in (later, hung):
            if retries is not None:
                retries.close()


def test_a_look_up_without_an_answer_is_one_only_after_a_while():
    missing = LookUp("no-such-host.invalid")
    assert not missing.is_without_answer(after=FOR_EVER)
    assert missing.is_without_answer(after=0)
    found = LookUp("localhost")
    found.ended.wait()
    assert not found.is_without_answer(after=0)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        (None, "localhost"),
        ("http://traces:4318", "traces"),
        ("collector:4317", "collector"),
        ("https://[::1]:4318/v1/traces", "::1"),
    ],
)
def test_the_host_is_the_one_that_the_endpoint_names(endpoint, host):
    assert collector_host(endpoint) == host
