"""Every log has a name in spans, also one that no setting mentions any more."""

from __future__ import annotations

import time

import pytest

from otel.tracing.endpoints import Endpoints
from tests.support.spans import Tracing
from transport.contract import Record, Topic
from transport.settings import TransportSettings


@pytest.mark.parametrize(("transport", "system"), [("kafka", "kafka"), ("memory", "memory")])
def test_a_log_that_is_only_drained_can_be_traced(transport, system):
    tracing = Tracing("redis")
    record = Record(Topic.MESSAGES, 3, "7", "k", b"{}", {}, time.time())
    delivery = tracing.on.deliveries.begin(transport, "group", [record], time.time_ns())
    delivery.settled(time.time_ns())
    assert {span.attributes["messaging.system"] for span in tracing.spans} == {system}


def test_the_first_broker_is_the_address():
    settings = TransportSettings(kafka_bootstrap_servers="one:9092, two:9093")
    kafka = Endpoints(settings)["kafka"].location
    assert (kafka.address, kafka.port, kafka.messages) == ("one", 9092, "msg.stream")


def test_a_span_that_cannot_be_made_is_nobodys_failure(monkeypatch):
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from otel.tracing import sdk  # noqa: PLC0415
    from otel.tracing.requests import Requests  # noqa: PLC0415
    from otel.tracing.sampling import EVERY, Sampling  # noqa: PLC0415
    from otel.tracing.settings import TracingSettings  # noqa: PLC0415

    registry = CollectorRegistry()
    settings = TracingSettings(otel_traces_exporter="console")
    pipeline = sdk.pipeline(settings, registry, environment={}, resource={})
    monkeypatch.setattr(pipeline, "readable", lambda _: 1 / 0)
    created = Endpoints(TransportSettings())["redis"]
    requests = Requests(pipeline.record, Sampling(EVERY, parent_based=True), created)
    trace = requests.begin({}, "POST", "/api/messages")
    trace.request.end(202, None)
    pipeline.close(5)
    assert registry.get_sample_value("trace_spans_dropped_total", {"reason": "export_failed"}) == 1
