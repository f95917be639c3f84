"""Batches, receipts, others' records and what goes astray: each in the trace it belongs to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from opentelemetry.trace import StatusCode

from otel.tracing.context import derived_trace_id
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.ingress.conftest import Service, Start, message, working
from tests.support.spans import Tracing, hexadecimal, identity, linked, parent
from transport.contract import Envelope, Transport
from transport.message.partitioner import partition_for

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


@pytest.mark.parametrize("lines", [False, True])
async def test_a_batch_is_one_trace_with_a_creation_for_each(
    worked: Service, tracing: Tracing, eventually, lines: bool
):
    bodies = [message(n, conversationId=f"conv{n % 3}") for n in range(1, 6)]
    content = "\n".join(map(json.dumps, bodies)) if lines else json.dumps(bodies)
    media = "application/x-ndjson" if lines else "application/json"
    answer = await worked.client.post(
        "/api/messages:batch",
        content=content,
        headers={"Content-Type": media, "traceparent": SAMPLED, "X-Correlation-ID": "c-9"},
    )
    assert answer.status_code == 207
    await eventually(lambda: len(tracing.named("ack msg:stream")) == 5)
    post = tracing.one("POST /api/messages:batch")
    assert post.attributes["messaging.batch.message_count"] == 5
    creates = tracing.named("create msg:stream")
    assert {parent(s) for s in creates} == {identity(post)}
    for name in ("send msg:stream", "receive msg:stream", "process msg:stream"):
        assert sorted(map(parent, tracing.named(name))) == sorted(map(identity, creates))
    sends = tracing.named("send msg:stream")
    assert {span.attributes["messaging.batch.message_count"] for span in sends} == {5}
    spans = tracing.of(TRACE)
    assert len(spans) == len(tracing.spans)
    assert {s.attributes["messaging.message.conversation_id"] for s in spans} == {"c-9"}


async def test_a_receipt_travels_in_its_requests_trace(
    worked: Service, tracing: Tracing, eventually
):
    sent = (await worked.post(message(), traceparent=UNSAMPLED)).json()
    await eventually(worked.rows)
    path = f"/api/messages/{sent['messageId']}/receipts"
    body = {"userId": "user_002", "state": "read"}
    answer = await worked.client.post(path, json=body, headers={"traceparent": SAMPLED})
    assert answer.status_code == 202
    await eventually(lambda: tracing.named("ack msg:stream"))
    post = tracing.one("POST /api/messages/{messageId}/receipts", tracing.of(TRACE))
    assert parent(post) == SPAN
    assert parent(tracing.one("create msg:stream")) == identity(post)
    await worked.client.get("/healthz")
    assert not [s for s in tracing.spans if "healthz" in s.name]


async def test_a_direct_message_has_its_insert_in_the_requests_trace(
    log: Transport, launch: Start, tracing: Tracing
):
    service = await launch(transport=log, tracing=tracing.on, ingress_mode="direct")
    await service.post(message(), traceparent=SAMPLED)
    create = tracing.one("create msg:stream", tracing.of(TRACE))
    assert parent(tracing.one("INSERT messages")) == identity(create)
    (row,) = await service.rows()
    assert row["trace_id"] == TRACE


def foreign(content: str = "theirs", **headers: str) -> Envelope:
    """A record of another producer's: nothing but what it must have."""
    body = {
        "type": "message", "v": 1, "conversationId": "conv", "senderId": "s", "content": content,
        "clientMessageId": "c1", "contentType": "text",
    }  # fmt: skip
    return Envelope("x", partition_for("conv", 16), "conv", json.dumps(body).encode(), headers)


async def test_another_producers_trace_is_continued(
    worked: Service, log: Transport, tracing: Tracing, eventually
):
    await log.publish([foreign(traceparent=SAMPLED, tracestate="v=2")], remember=False)
    await eventually(lambda: tracing.named("ack msg:stream"))
    process = tracing.one("process msg:stream", tracing.of(TRACE))
    assert parent(process) == SPAN
    assert process.context.trace_state.to_header() == "v=2"
    (row,) = await worked.rows()
    assert row["trace_id"] == TRACE
    attributes = process.attributes
    assert attributes["messaging.message.conversation_id"] == row["correlation_id"]
    assert attributes["crossfade.message_id"] == str(row["id"])


@pytest.mark.parametrize("headers", [{}, {"traceparent": "broken"}])
async def test_another_producers_record_without_a_trace_begins_one(
    worked: Service, log: Transport, tracing: Tracing, eventually, headers
):
    envelope = foreign(**headers)
    await log.publish([envelope], remember=False)
    await eventually(lambda: tracing.named("ack msg:stream"))
    process = tracing.one("process msg:stream")
    assert process.parent is None
    assert process.context.trace_id == derived_trace_id(envelope.body)
    assert parent(tracing.one("receive msg:stream")) == identity(process)
    (row,) = await worked.rows()
    assert row["trace_id"] == hexadecimal(process.context.trace_id, 32)


@pytest.mark.parametrize("headers", [{"traceparent": SAMPLED}, {}])
async def test_a_dead_letter_and_its_redrive_are_linked_to_the_original(
    worked: Service,
    log: Transport,
    tracing: Tracing,
    eventually,
    index_dead_letters: Callable[[Service], Awaitable[None]],
    headers,
):
    await log.publish([foreign("a\0b", **headers)], remember=False)
    await eventually(lambda: tracing.named("ack msg:stream"))
    process = tracing.one("process msg:stream")
    letter = tracing.one("send msg:dlq")
    assert parent(letter) == identity(process)
    assert letter.attributes["crossfade.dead_letter.reason"] == "rejected"
    assert process.status.status_code is StatusCode.ERROR
    assert process.attributes["error.type"] == "rejected"
    attempts = tracing.named("INSERT messages")
    assert [s.attributes["crossfade.attempt"] for s in attempts] == [1, 2, 3]
    assert {(parent(s), s.status.status_code) for s in attempts} == {
        (identity(process), StatusCode.ERROR)
    }
    await index_dead_letters(worked)
    listed = (await worked.client.get("/api/dead-letters")).json()["items"]
    body = {"ids": [listed[0]["id"]]}
    tracing.clear()
    assert (await worked.client.post("/api/dead-letters/redrive", json=body)).status_code == 202
    await eventually(lambda: tracing.named("ack msg:stream"))
    send, again = tracing.one("send msg:stream"), tracing.one("process msg:stream")
    assert {s.context.trace_id for s in (send, again)} == {process.context.trace_id}
    assert again.attributes["crossfade.outcome"] == "dead_lettered"
    assert send.attributes["crossfade.redrives"] == "1"
    if headers:
        assert linked(send) == [SPAN] == [linked(again)[0]]
    correlation = "messaging.message.conversation_id"
    assert again.attributes[correlation] == process.attributes[correlation]


async def test_every_delivery_has_its_span(service: Service, tracing: Tracing, eventually):
    async with service.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE messages IN EXCLUSIVE MODE")
        worker = Worker(
            transport=service.transport,
            pool=service.pool,
            settings=PersistenceSettings(),
            metrics=service.metrics,
            member="first",
            deliveries=service.tracing.deliveries,
        )
        working_on_it = asyncio.create_task(worker.run(asyncio.Event()))
        await service.post(message(), traceparent=SAMPLED)
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'messages'::regclass"
        )
        await eventually(lambda: connection.fetchval(waiting))
        working_on_it.cancel()
        await asyncio.gather(working_on_it, return_exceptions=True)

        async def is_given_up() -> bool:
            return not await connection.fetchval(waiting)

        await eventually(is_given_up)  # or it would be a row once the lock is released
    async with working(service):
        await eventually(lambda: tracing.named("ack msg:stream"))
    create = identity(tracing.one("create msg:stream"))
    first, second = tracing.named("process msg:stream")
    assert parent(first) == parent(second) == create
    assert first.attributes["error.type"] == "CancelledError"
    assert second.attributes["crossfade.outcome"] in {"persisted", "duplicate"}
    inserts = tracing.named("INSERT messages")
    assert [parent(insert) for insert in inserts] == [identity(first), identity(second)]
    assert [insert.status.status_code for insert in inserts] == [StatusCode.ERROR, StatusCode.UNSET]
