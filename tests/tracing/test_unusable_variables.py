"""OpenTelemetry's variables with values that are empty or can't work."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from compose.settings import SettingsError, load
from otel.tracing.start import Tracing, start
from tests.support.certificates import self_signed
from tests.support.otlp import receiver
from transport.errors import ConfigurationError
from transport.settings import TransportSettings

SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch):
    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def begin() -> Tracing:
    return start(load().tracing, TransportSettings(), CollectorRegistry(), environment={})


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": ""},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": ""},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "", "OTEL_BSP_SCHEDULE_DELAY": ""},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
        {
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
        },
    ],
)
def test_empty_is_unset_and_no_compression_is_none(setting, caplog, protocol, variables):
    with receiver(protocol) as collector:
        setting(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            **variables,
        )
        tracing = begin()
        trace = tracing.requests.begin({b"traceparent": SAMPLED}, "POST", "/api/messages")
        trace.request.end(202, "c-1")
        tracing.close(30)
        assert len(collector.spans) == 1
        assert "gzip" not in collector.headers[0].get("content-encoding", "")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "'collector:4317'.*PROTOCOL=grpc"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "127.0.0.1:4318"}, "TRACES_ENDPOINT.*http://"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://collector"}, "http:// or https://"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "COMPRESSION='zstd'.*gzip, deflate"),
        (
            {"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "COMPRESSION='deflate'.*none, gzip",
        ),
    ],
)
def test_what_no_export_could_work_with_stops_the_start(setting, variables, says):
    setting(**variables)
    with pytest.raises(SettingsError, match=says):
        load()


@pytest.mark.parametrize("headers", ["Authorization: Bearer s3cret", "s3cret", "x=1,s3cret"])
def test_headers_that_are_no_pairs_are_refused_and_not_shown(setting, headers):
    setting(OTEL_EXPORTER_OTLP_HEADERS=headers)
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_HEADERS.*name=value") as raised:
        load()
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "headers", ["authorization=Bearer s3cret", "a=b==, x-b = %2C ,", "authorization=Basic%20YTpi"]
)
def test_headers_as_backends_print_them_are_taken(setting, headers):
    setting(OTEL_EXPORTER_OTLP_HEADERS=headers)
    load()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_that_no_export_could_use_stop_the_start(setting, tmp_path, protocol):
    setting(OTEL_EXPORTER_OTLP_ENDPOINT="https://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    ours, others = self_signed(tmp_path, "ours"), self_signed(tmp_path, "others")
    text = tmp_path / "text"
    text.write_text("no certificate")
    for file in (tmp_path / "missing", text):
        setting(OTEL_EXPORTER_OTLP_CERTIFICATE=str(file))
        with pytest.raises(ConfigurationError, match=f"OTEL_EXPORTER_OTLP_CERTIFICATE='{file}'"):
            begin()
    setting(
        OTEL_EXPORTER_OTLP_CERTIFICATE=str(ours.certificate),
        OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=str(ours.certificate),
        OTEL_EXPORTER_OTLP_CLIENT_KEY=str(others.key),
    )
    with pytest.raises(ConfigurationError, match=r"OTLP_TRACES_CLIENT_CERTIFICATE.*the key"):
        begin()


def test_a_client_certificate_that_grpc_would_not_show_stops_the_start(setting, tmp_path):
    ours = self_signed(tmp_path, "ours")
    setting(
        OTEL_EXPORTER_OTLP_ENDPOINT="https://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(ours.certificate),
        OTEL_EXPORTER_OTLP_CLIENT_KEY=str(ours.key),
    )
    with pytest.raises(ConfigurationError, match="unless OTEL_EXPORTER_OTLP_CERTIFICATE is set"):
        begin()


def test_a_variable_that_the_sdk_refuses_is_named(setting):
    setting(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_SPAN_LINK_COUNT_LIMIT="few")
    with pytest.raises(ConfigurationError, match="OTEL_SPAN_LINK_COUNT_LIMIT"):
        begin()


def test_values_are_cut_without_a_log_line_for_each(setting, caplog):
    with receiver("http/protobuf") as collector:
        setting(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="4"
        )
        tracing = begin()
        tracing.requests.begin({}, "POST", "/api/messages").request.end(202, "c-1")
        tracing.close(30)
    assert collector.spans[0].attributes["url.path"] == "/api"
    assert caplog.messages == []
