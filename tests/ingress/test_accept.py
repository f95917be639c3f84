"""One message at a time: accepted, repeated, refused (promises 1, 4 and 5)."""

from __future__ import annotations

import re

import pytest
from redis.asyncio import Redis

from tests.ingress.conftest import Service, message, working
from tests.support.eventually import eventually
from transport.clock import now
from transport.contract import Topic
from transport.message.envelope import Message, decode, seal_message
from transport.message.identity import idempotency_key, message_id, partition_of
from transport.settings import TransportSettings

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_message_is_answered_202_and_stands_in_the_log(service: Service) -> None:
    answer = await service.post(message())
    assert answer.status_code == 202
    ack = answer.json()
    assert RFC3339.fullmatch(ack.pop("acceptedAt"))
    identifier = message_id(
        idempotency_key("user_001", "test_conv_001", "client_msg_001"), "test_conv_001"
    )
    assert ack == {
        "messageId": identifier,
        "state": "pending",
        "idempotentHit": False,
        "correlationId": identifier,
    }
    (record,) = await service.transport.read(Topic.MESSAGES, partition_of(identifier, 16))
    assert record.key == "test_conv_001"
    event = decode(record)
    assert (event.content, event.accepted_at) == (message()["content"], answer.json()["acceptedAt"])


async def test_a_repeat_gets_the_first_answer_and_is_not_enqueued(service: Service) -> None:
    first = (await service.post(message())).json()
    answer = await service.post(message())
    assert answer.status_code == 200
    assert answer.json() == first | {"idempotentHit": True}
    assert await service.records() == 1
    value = service.metrics.registry.get_sample_value
    assert value("idempotency_hit_total", {"operation": "ingress"}) == 1
    assert value("idempotency_requests_total", {"operation": "ingress"}) == 2


async def test_a_repeat_after_the_log_forgot_gets_its_answer_from_the_row(
    service: Service,
) -> None:
    first = (await service.post(message(), X_Correlation_ID="first")).json()
    async with working(service):
        await eventually(service.rows)
    service.transport.recall = service.transport.publish = None  # neither may be asked
    answer = await service.post(message(), X_Correlation_ID="second")
    assert answer.status_code == 200
    assert answer.json() == first | {"idempotentHit": True, "state": "persisted"}
    assert answer.json()["correlationId"] == "first"
    assert answer.headers["x-correlation-id"] == "second"


async def test_a_repeat_of_a_message_whose_stream_was_deleted_is_appended_again(
    service: Service, redis_settings: TransportSettings
) -> None:
    """No worker runs here (ENABLE_STREAM_CONSUMERS=false), so no process makes the group anew."""
    first = (await service.post(message())).json()
    partition = partition_of(first["messageId"], 16)
    async with Redis(
        host=redis_settings.redis_host,
        port=redis_settings.redis_port,
        db=redis_settings.redis_stream_db,
    ) as client:
        assert await client.delete(f"msg:stream:{partition}") == 1
    assert (await service.client.get(f"/api/messages/{first['messageId']}")).status_code == 404
    answer = await service.post(message())
    assert (answer.status_code, answer.json()) == (200, first | {"idempotentHit": True})
    assert await service.records() == 1
    assert (await service.post(message())).status_code == 200
    async with working(service):
        await eventually(service.rows)


async def test_a_repeat_says_the_state_it_is_in_now(service: Service) -> None:
    await service.post(message())
    assert (await service.post(message())).json()["state"] == "pending"
    async with working(service):
        await eventually(service.rows)
    assert (await service.post(message())).json()["state"] == "persisted"


@pytest.mark.parametrize(
    "change", [{"content": "other"}, {"contentType": "json"}, {"recipientIds": ["user_003"]}]
)
@pytest.mark.parametrize("persisted", [False, True])
async def test_the_same_key_with_another_body_is_refused(
    service: Service, change: dict, persisted: bool
) -> None:
    await service.post(message())
    if persisted:
        async with working(service):
            await eventually(service.rows)
    answer = await service.post(message(**change))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/idempotency-conflict"
    assert await service.records() == 1


async def test_the_idempotency_key_header_stands_for_the_client_message_id(
    service: Service,
) -> None:
    first = (await service.post(message())).json()
    without = message()
    del without["clientMessageId"]
    for given in ("client_msg_001", '"client_msg_001"'):
        answer = await service.post(without, Idempotency_Key=given)
        assert answer.json() == first | {"idempotentHit": True}
    both = await service.post(message(), Idempotency_Key="client_msg_001")
    assert both.status_code == 200
    refused = await service.post(message(), Idempotency_Key="another")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"
    missing = await service.post(without)
    assert missing.status_code == 422
    assert missing.json()["errors"][0]["field"] == "clientMessageId"


async def test_correlation_and_trace_travel_with_the_message(service: Service) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await service.post(message(), X_Correlation_ID="order:42", traceparent=parent)
    assert answer.json()["correlationId"] == answer.headers["x-correlation-id"] == "order:42"
    partition = partition_of(answer.json()["messageId"], 16)
    (record,) = await service.transport.read(Topic.MESSAGES, partition)
    assert record.headers["correlationId"] == b"order:42"
    assert record.headers["traceparent"] == parent.encode()


@pytest.mark.parametrize(
    "parent",
    [
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ],
)
async def test_a_broken_traceparent_is_ignored(service: Service, parent: str) -> None:
    answer = await service.post(message(), traceparent=parent)
    assert answer.status_code == 202
    partition = partition_of(answer.json()["messageId"], 16)
    (record,) = await service.transport.read(Topic.MESSAGES, partition)
    assert "traceparent" not in record.headers


@pytest.mark.parametrize("given", ["", "with space", "x" * 129, "tab\tin", 'quote"'])
async def test_a_correlation_id_that_could_do_harm_is_refused(service: Service, given: str) -> None:
    answer = await service.post(message(), X_Correlation_ID=given)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "X-Correlation-ID"
    assert await service.records() == 0


async def test_what_another_producer_wrote_can_not_break_the_headers(service: Service) -> None:
    """Its correlation id may hold anything; only the body can carry that safely."""
    sent = message()
    key = idempotency_key(sent["senderId"], sent["conversationId"], sent["clientMessageId"])
    evil = "a\r\nset-cookie: x=1"
    theirs = Message(
        sent["conversationId"], sent["senderId"], sent["clientMessageId"], sent["content"], "text",
        ("user_002",), message_id(key, sent["conversationId"]), key, now(), evil,
    )  # fmt: skip
    await service.transport.publish([seal_message(theirs, partitions=16, traceparent=None)])
    async with working(service):
        await eventually(service.rows)
    answer = await service.post(sent)
    assert (answer.status_code, answer.json()["correlationId"]) == (200, evil)
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-correlation-id"] == answer.json()["messageId"]
