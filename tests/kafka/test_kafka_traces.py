"""Proof on the wire: a message that crossed Redis and Kafka, followed through a real OTLP receiver.

From the answer of the POST to the insert on both sides, by ids alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from compose.process.context import ProcessContext
from compose.process.logs.transports import Logs, open_logs
from compose.settings import load
from ingress.build import build
from ingress.settings import IngressSettings
from otel.metrics import Metrics
from otel.tracing.settings import TracingSettings
from otel.tracing.start import Tracing, start
from persistence.chain.known_chain import KnownChain
from persistence.chain.links import Marks
from persistence.database.pool import Pool
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.ingress.conftest import message, serving
from tests.support.otlp import Collector, Received, receiver
from transport.contract import Topic
from transport.settings import TransportSettings

CORRELATION = "order:42"


@pytest.fixture(params=[("grpc", "sync"), ("http/protobuf", "async")], ids="-".join)
def mode(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The protocol of the receiver, and how the shadow is written."""
    return request.param


@pytest.fixture
def collector(mode: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with receiver(mode[0]) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", mode[0])
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest.fixture
def both(
    redis_settings: TransportSettings, kafka_settings: TransportSettings, mode: tuple[str, str]
) -> TransportSettings:
    """Redis with Kafka as its shadow."""
    names = [
        name for name in TransportSettings.model_fields if name.startswith(("kafka", "stream"))
    ]
    kafka = {name: getattr(kafka_settings, name) for name in names}
    shadow = {"transport_shadow": "kafka", "transport_shadow_mode": mode[1]}
    return redis_settings.model_copy(update={"transport": "redis", **kafka, **shadow})


@asynccontextmanager
async def working(logs: Logs, pool: Pool, tracing: Tracing) -> AsyncIterator[None]:
    """Run a worker on each log, as in a step between phases in which both logs are whole."""
    stop = asyncio.Event()
    chain = KnownChain(pool)
    await chain.begin("redis")
    await chain.update(lambda now: now.marked({"redis": Marks("", {})}, "redis", "kafka"))
    workers = [
        Worker(
            transport=log,
            pool=pool,
            settings=PersistenceSettings(),
            metrics=Metrics(),
            member="test",
            chain=chain,
            deliveries=tracing.deliveries,
        )
        for log in logs.every
    ]
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_a_message_is_followed_over_both_logs_by_ids_alone(
    collector: Collector, both: TransportSettings, database_pool: Pool, eventually: Any
):
    metrics = Metrics()
    tracing = start(TracingSettings(), both, metrics.registry, environment={})
    settings = load()._replace(transport=both)
    context = ProcessContext(settings, database_pool, metrics, "test", tracing)
    async with open_logs(context) as logs:
        for log in logs.every:
            await log.connect()
        app = build(
            settings=IngressSettings(),
            transport=logs.written,
            pool=database_pool,
            metrics=metrics,
            tracer=tracing.requests,
        )
        async with serving(app, "protocol") as port, working(logs, database_pool, tracing):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                answer = await client.post(
                    "/api/messages", json=message(), headers={"X-Correlation-ID": CORRELATION}
                )
            assert answer.status_code == 202
            await eventually(lambda: sum(s.name.startswith("ack ") for s in collector.spans) == 2)
        redis, kafka = [await _only(log) for log in logs.every]
    await asyncio.to_thread(tracing.close)
    assert redis.headers["traceparent"] == kafka.headers["traceparent"]
    rows = await database_pool.fetch("SELECT id, trace_id, correlation_id FROM messages")
    assert [str(row["id"]) for row in rows] == [answer.json()["messageId"]]
    assert rows[0]["correlation_id"] == CORRELATION
    _walk(collector.of(rows[0]["trace_id"]), answer.json()["messageId"], redis.offset, kafka.offset)


async def _only(log: Any) -> Any:
    found = [r for p in range(log.partitions) for r in await log.read(Topic.MESSAGES, p)]
    assert len(found) == 1
    return found[0]


def _walk(spans: list[Received], message_id: str, redis: str, kafka: str) -> None:
    """Go from the POST down to both inserts, each step by the id of the one before."""

    def below(parent: Received | None, name: str, system: str | None = None) -> Received:
        wanted = parent.span_id if parent else ""
        (found,) = [
            span
            for span in spans
            if span.parent_id == wanted
            and span.name == name
            and system in {None, span.attributes.get("messaging.system")}
        ]
        return found

    post = below(None, "POST /api/messages")
    assert below(post, "idempotency check").kind == "internal"
    create = below(post, "create msg:stream")
    outcomes = set()
    kafka_name = next(s.attributes["messaging.destination.name"] for s in spans
                      if s.attributes.get("messaging.system") == "kafka")  # fmt: skip
    for system, log, where in (
        ("redis", "msg:stream", {"messaging.message.id": redis}),
        ("kafka", kafka_name, {"messaging.kafka.offset": int(kafka)}),
    ):
        send = below(create, f"send {log}", system)
        receive = below(create, f"receive {log}", system)
        process = below(create, f"process {log}", system)
        acknowledge = below(process, f"ack {log}", system)
        assert [s.kind for s in (send, receive, process, acknowledge)] == [
            "client", "client", "consumer", "client",
        ]  # fmt: skip
        for span in (send, receive, process, acknowledge):
            assert {key: span.attributes[key] for key in where} == where
            assert (post.trace_id, create.span_id) in span.links or span is acknowledge
        assert below(process, "INSERT messages").attributes["db.system.name"] == "postgresql"
        outcomes.add(process.attributes["crossfade.outcome"])
    assert outcomes == {"persisted", "duplicate"}
    assert len(spans) == 3 + 2 * 5
    for span in spans:
        assert not span.failed
        assert span.attributes["crossfade.message_id"] == message_id
        assert span.attributes["messaging.message.conversation_id"] == CORRELATION
        assert span.resource["service.name"] == "crossfade"
