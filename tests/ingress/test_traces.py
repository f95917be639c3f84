"""One trace shows a message from its POST to its row, and every way it may go astray."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from opentelemetry.trace import SpanKind, StatusCode

from tests.ingress.conftest import Service, Start, message, working
from tests.support.spans import Tracing, hexadecimal, identity, linked, parent
from transport.contract import Topic, Transport

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def tracing() -> Tracing:
    return Tracing("redis")


@pytest_asyncio.fixture
async def service(tracing: Tracing, log: Transport, launch: Start) -> Service:
    """An ingress that samples every request."""
    return await launch(transport=log, tracing=tracing.on)


@pytest_asyncio.fixture
async def worked(service: Service) -> AsyncIterator[Service]:
    """The same, with a worker."""
    async with working(service):
        yield service


async def header(service: Service, name: str = "traceparent") -> str:
    """Return a header of the one record in the log."""
    partitions = range(service.transport.partitions)
    found = [r for p in partitions for r in await service.transport.read(Topic.MESSAGES, p)]
    assert len(found) == 1
    return found[0].headers[name].decode()


async def test_one_trace_shows_the_whole_way(worked: Service, tracing: Tracing, eventually):
    answer = await worked.post(
        message(), traceparent=SAMPLED, tracestate="v=1", X_Correlation_ID="order:42"
    )
    message_id = answer.json()["messageId"]
    await eventually(lambda: tracing.named("ack msg:stream"))
    spans = {span.name: span for span in tracing.of(TRACE)}
    assert len(spans) == len(tracing.spans) == 8  # nothing twice, nothing in another trace
    post, create = spans["POST /api/messages"], spans["create msg:stream"]
    process = spans["process msg:stream"]
    # Not by time: a worker may ask the log for records before the append that answers it.
    assert {(s.name, s.kind, parent(s)) for s in spans.values()} == {
        ("POST /api/messages", SpanKind.SERVER, SPAN),
        ("idempotency check", SpanKind.INTERNAL, identity(post)),
        ("create msg:stream", SpanKind.PRODUCER, identity(post)),
        ("send msg:stream", SpanKind.CLIENT, identity(create)),
        ("receive msg:stream", SpanKind.CLIENT, identity(create)),
        ("process msg:stream", SpanKind.CONSUMER, identity(create)),
        ("INSERT messages", SpanKind.CLIENT, identity(process)),
        ("ack msg:stream", SpanKind.CLIENT, identity(process)),
    }
    assert post.parent.is_remote
    assert linked(spans["send msg:stream"]) == [identity(create)]
    assert linked(process) == [identity(create), identity(spans["receive msg:stream"])]
    for span in spans.values():
        assert span.start_time <= span.end_time
        assert span.status.status_code is StatusCode.UNSET
        assert span.context.trace_state.to_header() == "v=1"
        assert span.attributes["messaging.message.conversation_id"] == "order:42"
        assert span.attributes["crossfade.message_id"] == message_id
    (row,) = await worked.rows()
    assert (row["trace_id"], row["correlation_id"]) == (TRACE, "order:42")


async def test_spans_have_the_names_of_the_conventions(
    worked: Service, tracing: Tracing, eventually
):
    await worked.post(message(), traceparent=SAMPLED)
    await eventually(lambda: tracing.named("ack msg:stream"))
    (row,) = await worked.rows()
    where = {
        "messaging.system": "redis",
        "messaging.destination.name": "msg:stream",
        "messaging.destination.partition.id": str(row["partition"]),
    }
    position = {**where, "messaging.message.id": row["log_offset"]}
    group = {**position, "messaging.consumer.group.name": "persistence-workers"}
    expected = {
        "POST /api/messages": {
            "http.request.method": "POST",
            "http.route": "/api/messages",
            "http.response.status_code": 202,
        },
        "idempotency check": {"crossfade.idempotency.outcome": "new"},
        "create msg:stream": where | _operation("create", "create"),
        "send msg:stream": position | _operation("send", "send"),
        "receive msg:stream": group | _operation("receive", "receive"),
        "process msg:stream": group
        | _operation("process", "process")
        | {"crossfade.outcome": "persisted"},
        "INSERT messages": {
            "db.system.name": "postgresql",
            "db.operation.name": "INSERT",
            "db.collection.name": "messages",
            "crossfade.attempt": 1,
        },
        "ack msg:stream": group | _operation("ack", "settle"),
    }
    for name, attributes in expected.items():
        there = tracing.one(name).attributes
        assert {key: there.get(key) for key in attributes} == attributes, name
        assert "messaging.batch.message_count" not in there  # each was alone
        if name.startswith(("create", "send", "receive", "ack")):
            assert {"server.address", "server.port"} <= set(there)


def _operation(name: str, kind: str) -> dict[str, str]:
    return {"messaging.operation.name": name, "messaging.operation.type": kind}


async def test_the_context_in_the_log_is_the_creations(service: Service, tracing: Tracing):
    await service.post(message(), traceparent=SAMPLED, tracestate="v=1")
    create = tracing.one("create msg:stream")
    assert await header(service) == f"00-{TRACE}-{identity(create)}-01"
    assert await header(service, "tracestate") == "v=1"


async def test_a_request_without_a_context_begins_a_trace(service: Service, tracing: Tracing):
    await service.post(message())
    post = tracing.one("POST /api/messages")
    assert post.parent is None
    traceparent = await header(service)
    assert traceparent[3:35] == hexadecimal(post.context.trace_id, 32)
    assert int(traceparent[53:55], 16) & 1


@pytest.mark.parametrize(
    "broken", ["", "garbage", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"]
)
async def test_a_broken_context_begins_a_trace_and_fails_nothing(
    service: Service, tracing: Tracing, broken: str
):
    answer = await service.post(message(), traceparent=broken, tracestate="v=1")
    assert answer.status_code == 202
    post = tracing.one("POST /api/messages")
    assert post.parent is None
    assert not post.context.trace_state
    assert hexadecimal(post.context.trace_id, 32) != TRACE


@pytest.mark.parametrize(
    ("flags", "recorded"), [("00", 0), ("02", 0), ("fe", 0), ("03", 4), ("ff", 4)]
)
async def test_only_the_sampled_bit_decides(service: Service, tracing: Tracing, flags, recorded):
    await service.post(message(), traceparent=f"00-{TRACE}-{SPAN}-{flags}")
    assert len(tracing.of(TRACE)) == recorded
    sent = await header(service)
    assert sent[3:35] == TRACE
    assert int(sent[53:55], 16) & 1 == int(flags, 16) & 1


async def test_what_is_not_sampled_is_told_to_the_readers_and_leaves_nothing(
    log: Transport, launch: Start, eventually
):
    tracing = Tracing("redis", otel_traces_sampler="traceidratio", otel_traces_sampler_arg="0")
    service = await launch(transport=log, tracing=tracing.on)
    async with working(service):
        await service.post(message(1))
        await eventually(service.rows)
        first = await header(service)
        await service.post(message(2, conversationId="two"), traceparent=SAMPLED)
        await eventually(lambda: _rows(service, 2))
    assert first[:3] == "00-"
    assert set(first[3:35]) != {"0"}
    assert not int(first[53:55], 16) & 1
    assert tracing.spans == []
    assert [row["trace_id"] for row in await service.rows()] == [None, None]  # nothing to look at


async def _rows(service: Service, count: int) -> bool:
    return len(await service.rows()) == count


async def test_baggage_is_not_passed_on(service: Service):
    await service.post(message(), baggage="user=alice", traceparent=SAMPLED)
    partitions = range(service.transport.partitions)
    records = [r for p in partitions for r in await service.transport.read(Topic.MESSAGES, p)]
    assert "alice" not in repr(records)


async def test_a_repeat_and_a_conflict_say_so(service: Service, tracing: Tracing):
    await service.post(message())
    tracing.clear()
    assert (await service.post(message())).status_code == 200
    assert (await service.post(message(content="other"))).status_code == 422
    outcomes = [
        span.attributes["crossfade.idempotency.outcome"]
        for span in tracing.named("idempotency check")
    ]
    assert outcomes == ["repeat", "idempotency-conflict"]
    statuses = [
        span.attributes["http.response.status_code"] for span in tracing.named("POST /api/messages")
    ]
    assert statuses == [200, 422]


async def test_a_refused_request_has_its_span(service: Service, tracing: Tracing):
    answer = await service.client.post(
        "/api/messages", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    post = tracing.one("POST /api/messages")
    assert post.attributes["http.response.status_code"] == 400
    assert post.status.status_code is StatusCode.UNSET  # the client's fault, not the server's
    assert len(tracing.spans) == 1
