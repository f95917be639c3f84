"""OpenTelemetry's standard variables, each seen in what a real receiver gets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from compose.settings import SettingsError, load, otel_variables
from otel.tracing.requests import PassOn, Requests
from otel.tracing.settings import TracingSettings
from otel.tracing.span import Link, OperationKind, Span
from otel.tracing.start import OFF, Tracing, start
from tests.support.certificates import Certificate, self_signed
from tests.support.otlp import Collector, Tls, receiver
from transport.errors import ConfigurationError
from transport.settings import TransportSettings

SAMPLED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROTOCOLS = ("grpc", "http/protobuf")


def begin(registry: CollectorRegistry | None = None) -> Tracing:
    registry = registry or CollectorRegistry()
    return start(TracingSettings(), TransportSettings(), registry, environment={})


def one_request(tracing: Tracing) -> None:
    trace = tracing.requests.begin({b"traceparent": SAMPLED}, "POST", "/api/messages")
    assert trace.request is not None
    trace.request.end(202, "c-1")


@pytest.fixture(params=PROTOCOLS)
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    """A receiver that the environment does not name yet."""
    with receiver(request.param) as collector:
        collector.protocol = request.param
        yield collector


Set = Callable[..., None]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Set:
    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def exporting(collector: Collector, setting: Set) -> Collector:
    setting(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=collector.protocol,
    )
    return collector


def test_nothing_is_traced_unless_it_is_configured(setting):
    assert begin() is OFF
    assert isinstance(OFF.requests, PassOn)
    setting(OTEL_SERVICE_NAME="x", OTEL_TRACES_SAMPLER="always_on")
    assert begin() is OFF


def test_an_endpoint_is_enough_and_spans_are_flushed_at_the_end(exporting: Collector):
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    (span,) = exporting.spans
    assert (span.name, span.kind, span.parent_id) == (
        "POST /api/messages", "server", "00f067aa0ba902b7",
    )  # fmt: skip
    assert exporting.paths == [{"grpc": "grpc"}.get(exporting.protocol, "/v1/traces")]
    assert span.resource["service.name"] == "crossfade"
    assert {"service.version", "service.instance.id", "process.pid"} <= set(span.resource)


def test_the_variables_for_traces_go_before_the_general_ones(collector: Collector, setting):
    path = "" if collector.protocol == "grpc" else "/mine"
    setting(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_PROTOCOL=next(p for p in PROTOCOLS if p != collector.protocol),
        OTEL_EXPORTER_OTLP_HEADERS="x-who=general",
        OTEL_EXPORTER_OTLP_TIMEOUT="0.001",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.endpoint + path,
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=collector.protocol,
        OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-who=traces",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="5",
    )
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    assert len(collector.spans) == 1
    assert collector.headers[0]["x-who"] == "traces"
    assert collector.paths == [path or "grpc"]


def test_headers_are_sent(exporting: Collector, setting):
    setting(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cret,x-tenant=a")
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    sent = exporting.headers[0]
    assert (sent["authorization"], sent["x-tenant"]) == ("Bearer s3cret", "a")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_timeout_bounds_an_export(setting, protocol):
    """A collector that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        setting(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="0.3",
        )
        registry = CollectorRegistry()
        tracing = begin(registry)
        one_request(tracing)
        began = time.monotonic()
        tracing.close(20)
        assert time.monotonic() - began < 8  # and not the 10 s that it takes by default
    assert registry.get_sample_value("trace_spans_dropped_total", {"reason": "export_failed"}) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_end_of_a_process_waits_only_so_long(setting, protocol):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        setting(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1",
        )
        registry = CollectorRegistry()
        tracing = begin(registry)
        for _ in range(5):
            one_request(tracing)
        began = time.monotonic()
        tracing.close(0.5)
        assert time.monotonic() - began < 6
        assert registry.get_sample_value("trace_spans_dropped_total", {"reason": "stopped"}) >= 3


def test_disabled_is_off_whatever_else_is_set(exporting: Collector, setting):
    setting(OTEL_SDK_DISABLED="true")
    assert begin() is OFF


def test_the_exporter_none_is_off(exporting: Collector, setting):
    setting(OTEL_TRACES_EXPORTER="none")
    assert begin() is OFF


def test_the_console_needs_no_collector(setting, capsys):
    setting(OTEL_TRACES_EXPORTER="console")
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    assert '"name": "POST /api/messages"' in capsys.readouterr().out


def test_several_exporters_get_every_span(exporting: Collector, setting, capsys):
    setting(OTEL_TRACES_EXPORTER="otlp,console")
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    assert len(exporting.spans) == 1
    assert "POST /api/messages" in capsys.readouterr().out


def test_an_exporter_that_is_not_there_is_named(setting):
    setting(OTEL_TRACES_EXPORTER="zipkin")
    with pytest.raises(ConfigurationError, match=r"OTEL_TRACES_EXPORTER.*'zipkin'.*console"):
        begin()


def test_missing_packages_stop_the_start_with_the_remedy(setting, monkeypatch):
    setting(OTEL_TRACES_EXPORTER="otlp")
    monkeypatch.setitem(__import__("sys").modules, "otel.tracing.sdk", None)
    monkeypatch.delattr("otel.tracing.sdk", raising=False)
    with pytest.raises(ConfigurationError, match=r"crossfade\[tracing\]"):
        begin()


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"OTEL_SERVICE_NAME": "orders"}, "orders"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=from-attributes"}, "from-attributes"),
        (
            {"OTEL_SERVICE_NAME": "orders", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"},
            "orders",
        ),
    ],
)
def test_the_service_is_named_by_either_variable(exporting: Collector, setting, variables, name):
    setting(**variables)
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    assert exporting.spans[0].resource["service.name"] == name


def test_resource_attributes_go_with_every_span(exporting: Collector, setting):
    setting(OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,team=a%20b")
    tracing = begin()
    one_request(tracing)
    tracing.close(30)
    resource = exporting.spans[0].resource
    assert (resource["deployment.environment.name"], resource["team"]) == ("test", "a b")


def test_the_limits_of_a_span_are_kept(exporting: Collector, setting):
    from otel.tracing import sdk  # noqa: PLC0415

    setting(
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="4",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="2",
        OTEL_SPAN_LINK_COUNT_LIMIT="1",
    )
    tracing = begin()
    one_request(tracing)
    link = Link(1, 1)
    tracing.close(30)
    pipeline = sdk.pipeline(TracingSettings(), CollectorRegistry(), environment={}, resource={})
    pipeline.record(Span("x", OperationKind.CLIENT, 1, 2, None, 1, 2, {}, links=[link, link]))
    pipeline.close(30)
    request, linked = exporting.spans
    assert len(request.attributes) == 2
    assert all(len(value) <= 4 for value in request.attributes.values() if type(value) is str)
    assert len(linked.links) == 1


def test_what_is_sent_can_be_compressed(setting):
    with receiver("http/protobuf") as collector:
        setting(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        )
        tracing = begin()
        one_request(tracing)
        tracing.close(30)
        assert collector.headers[0]["content-encoding"] == "gzip"
        assert len(collector.spans) == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("certificates")
    return Tls(self_signed(folder, "server"), self_signed(folder, "client"))


@pytest.fixture
def tls(certificates: Tls, monkeypatch: pytest.MonkeyPatch) -> Tls:
    # The HTTP exporter's library prefers these to the certificate that it is given
    # (psf/requests#3829).
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificates.client.certificate))
    return certificates


def _send_over_tls(tls: Tls, protocol: str, setting: Set, prefix: str, trusted: Certificate) -> int:
    """Send one span to a receiver that demands a certificate; return how many it got."""
    with receiver(protocol, tls) as collector:
        setting(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            **{
                f"{prefix}_CERTIFICATE": str(trusted.certificate),
                f"{prefix}_CLIENT_CERTIFICATE": str(tls.client.certificate),
                f"{prefix}_CLIENT_KEY": str(tls.client.key),
            },
        )
        tracing = begin()
        one_request(tracing)
        tracing.close(30)
        return len(collector.spans)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("prefix", ["OTEL_EXPORTER_OTLP", "OTEL_EXPORTER_OTLP_TRACES"])
def test_certificates_of_both_sides_are_checked(tls: Tls, setting, protocol, prefix):
    assert _send_over_tls(tls, protocol, setting, prefix, trusted=tls.server) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_sent_to_a_receiver_that_nobody_vouches_for(tls: Tls, setting, protocol):
    sent = _send_over_tls(tls, protocol, setting, "OTEL_EXPORTER_OTLP", trusted=tls.client)
    assert sent == 0


def test_the_sampler_and_its_argument(exporting: Collector, setting):
    setting(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5")
    tracing = begin()
    sampled = sum(tracing.requests.begin({}, "POST", "/").request is not None for _ in range(1000))
    assert 400 < sampled < 600
    tracing.close(30)


def test_propagators_say_what_is_read_from_a_request(exporting: Collector, setting, monkeypatch):
    assert _continues(begin())
    setting(OTEL_PROPAGATORS="none")
    assert not _continues(begin())
    setting(OTEL_PROPAGATORS="baggage")
    assert not _continues(begin())
    setting(OTEL_PROPAGATORS="baggage,tracecontext")
    assert _continues(begin())
    setting(OTEL_PROPAGATORS="b3")
    with pytest.raises(ConfigurationError, match=r"OTEL_PROPAGATORS.*'b3'"):
        begin()


def test_another_packages_propagator_is_used(exporting: Collector, setting, monkeypatch):
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    from otel.tracing.sdk import plugins  # noqa: PLC0415

    known = plugins.registered
    monkeypatch.setattr(
        plugins,
        "registered",
        lambda group, name: TraceContextTextMapPropagator if name == "b3" else known(group, name),
    )
    setting(OTEL_PROPAGATORS="b3")
    tracing = begin()
    assert _continues(tracing)
    assert tracing.requests.begin({}, "POST", "/").request.parent is None


def _continues(tracing: Tracing) -> bool:
    assert isinstance(tracing.requests, Requests)
    request = tracing.requests.begin({b"traceparent": SAMPLED}, "POST", "/").request
    tracing.close(30)
    return request.parent is not None


def test_the_processor_is_set_by_its_variables(exporting: Collector, setting, eventually):
    """A short delay sends without an end; a small queue drops the oldest, and counts it."""
    setting(
        OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_BSP_MAX_QUEUE_SIZE="4",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2",
        OTEL_BSP_EXPORT_TIMEOUT="1000",
    )
    tracing = begin()
    one_request(tracing)
    asyncio.run(eventually(lambda: exporting.spans))
    tracing.close(30)


def test_spans_that_find_the_queue_full_are_counted(setting):
    setting(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="0.2",
        OTEL_BSP_MAX_QUEUE_SIZE="10",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10",
        OTEL_BSP_SCHEDULE_DELAY="60000",
    )
    registry = CollectorRegistry()
    tracing = begin(registry)
    for _ in range(1000):
        one_request(tracing)
    tracing.close(30)
    dropped = {
        reason: registry.get_sample_value("trace_spans_dropped_total", {"reason": reason})
        for reason in ("queue_full", "export_failed", "stopped")
    }
    assert dropped["queue_full"] > 900
    assert sum(dropped.values()) == 1000
    assert registry.get_sample_value("trace_spans_exported_total") == 0


def test_what_was_exported_is_counted(exporting: Collector):
    registry = CollectorRegistry()
    tracing = begin(registry)
    for _ in range(7):
        one_request(tracing)
    tracing.close(30)
    assert registry.get_sample_value("trace_spans_exported_total") == len(exporting.spans) == 7


def test_variables_in_the_env_file_count_too(collector: Collector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.endpoint}\n"
        f"OTEL_EXPORTER_OTLP_PROTOCOL={collector.protocol}\nOTEL_RESOURCE_ATTRIBUTES=team=a\n"
    )
    tracing = start(
        load().tracing, TransportSettings(), CollectorRegistry(), environment=otel_variables()
    )
    one_request(tracing)
    tracing.close(30)
    assert collector.spans[0].resource["team"] == "a"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL.*grpc"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"},
            "OTEL_TRACES_SAMPLER_ARG='7'.*0 to 1",
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "few"}, "OTEL_BSP_MAX_QUEUE_SIZE='few'.*whole number"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=512.*at most"),
    ],
)
def test_a_variable_that_cannot_work_stops_the_start(setting, variables, says):
    setting(**variables)
    with pytest.raises(SettingsError, match=says):
        load()


def test_headers_are_never_shown(setting):
    from compose.settings import effective  # noqa: PLC0415

    setting(OTEL_EXPORTER_OTLP_HEADERS="authorization=s3cret")
    shown = {row.name: row.value for row in effective(load())}
    assert shown["OTEL_EXPORTER_OTLP_HEADERS"] == "***"
