"""``GET /api/messages/{id}`` and conversation pages."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from tests.ingress.conftest import Service, message, working
from tests.support.eventually import eventually
from transport.contract import DeadLetter, Reason, Topic
from transport.message.identity import partition_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def _persisted(service: Service, count: int) -> None:
    async def there() -> bool:
        return len(await service.rows()) == count

    async with working(service):
        await eventually(there)


async def test_a_pending_message_is_read_from_the_log(service: Service) -> None:
    ack = (await service.post(message(), X_Correlation_ID="c-1", traceparent=PARENT)).json()
    answer = await service.client.get(f"/api/messages/{ack['messageId'].upper()}")
    assert answer.status_code == 200
    view = answer.json()
    assert view["state"] == "pending"
    assert {name: view[name] for name in message()} == message()
    assert view["acceptedAt"] == ack["acceptedAt"]
    assert (view["correlationId"], view["traceId"]) == ("c-1", PARENT[3:35])
    (position,) = view["positions"]
    partition = partition_of(ack["messageId"], 16)
    (record,) = await service.transport.read(Topic.MESSAGES, partition)
    assert position == {"transport": "redis", "partition": partition, "offset": record.offset}
    assert view["receipts"] == []
    assert view["persistedAt"] is None


async def test_a_persisted_message_says_where_it_came_from(start) -> None:
    service = await start(ingress_trace_url="http://traces/{traceId}")
    ack = (await service.post(message(), traceparent=PARENT)).json()
    await _persisted(service, 1)
    view = (await service.client.get(f"/api/messages/{ack['messageId']}")).json()
    assert view["state"] == "persisted"
    assert {name: view[name] for name in message()} == message()
    assert view["acceptedAt"] == ack["acceptedAt"]
    assert view["persistedAt"] >= view["acceptedAt"]
    assert view["attempts"] == 1
    assert view["positions"][0]["transport"] == "redis"
    assert view["traceUrl"] == f"http://traces/{PARENT[3:35]}"


async def test_a_pending_message_is_found_after_the_log_forgot_its_key(
    service: Service,
) -> None:
    for number in range(3):
        ack = (await service.post(message(number))).json()

    async def nothing(ids: list[str]) -> list[None]:
        return [None for _ in ids]

    service.transport.recall = nothing
    view = (await service.client.get(f"/api/messages/{ack['messageId']}")).json()
    assert (view["state"], view["content"]) == ("pending", message(2)["content"])


async def test_a_dead_letter_says_why(service: Service, index_dead_letters) -> None:
    ack = (await service.post(message())).json()
    partition = partition_of(ack["messageId"], 16)
    (record,) = await service.transport.read(Topic.MESSAGES, partition)
    await service.transport.dead_letter(
        [DeadLetter(record, Reason.REJECTED, "can't be stored", 3, ack["acceptedAt"])]
    )
    await index_dead_letters(service)
    view = (await service.client.get(f"/api/messages/{ack['messageId']}")).json()
    assert (view["state"], view["attempts"]) == ("dead_lettered", 3)
    assert view["deadLetter"]["reason"] == "rejected"
    assert view["deadLetter"]["error"] == "can't be stored"
    assert view["content"] == message()["content"]
    repeat = await service.post(message())
    assert (repeat.status_code, repeat.json()["state"]) == (200, "dead_lettered")
    copy = {"transport": "kafka", "partition": partition, "offset": "41"}
    await service.pool.execute(
        "INSERT INTO message_positions VALUES ($1, $2, $3, $4, now())",
        *(ack["messageId"], *copy.values()),
    )
    view = (await service.client.get(f"/api/messages/{ack['messageId']}")).json()
    died = {"transport": "redis", "partition": partition, "offset": record.offset}
    assert view["positions"] == [died, copy]


async def test_a_message_that_is_nowhere_is_404(service: Service) -> None:
    answer = await service.client.get("/api/messages/00000000-0000-8000-8000-000000000001")
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/not-found"


@pytest.mark.parametrize("given", ["1", "not-a-uuid", "00000000-0000-8000-8000-00000000000g"])
async def test_an_id_that_can_not_be_one_is_422(service: Service, given: str) -> None:
    answer = await service.client.get(f"/api/messages/{given}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "messageId"


async def test_pages_of_a_conversation_are_whole_and_in_order(service: Service) -> None:
    for number in range(7):
        assert (await service.post(message(number))).status_code == 202
    await _persisted(service, 7)
    url = "/api/conversations/test_conv_001/messages"
    seen, after, pages = [], None, 0
    while True:
        page = (await service.client.get(url, params={"limit": 3} | _after(after))).json()
        seen += [item["content"] for item in page["items"]]
        after = page["next"]
        pages += 1
        if not page["hasMore"]:
            break
    assert pages == 3
    assert seen == [message(number)["content"] for number in range(7)]

    # The last page's cursor goes on to what is written later.
    empty = (await service.client.get(url, params=_after(after))).json()
    assert empty == {"items": [], "next": after, "hasMore": False}
    await service.post(message(7))
    await _persisted(service, 8)
    (item,) = (await service.client.get(url, params=_after(after))).json()["items"]
    assert item["content"] == message(7)["content"]


def _after(cursor: str | None) -> dict[str, str]:
    return {"after": cursor} if cursor else {}


@pytest.mark.parametrize("conversation", ["a/b", "a\nb", "/messages", "a/messages"])
async def test_the_id_of_a_conversation_may_have_any_character(
    service: Service, conversation: str
) -> None:
    await service.post({**message(), "conversationId": conversation})
    await _persisted(service, 1)
    url = f"/api/conversations/{quote(conversation, safe='')}/messages"
    (item,) = (await service.client.get(url)).json()["items"]
    assert item["conversationId"] == conversation


async def test_an_empty_conversation_is_an_empty_page(service: Service) -> None:
    answer = await service.client.get("/api/conversations/none%2Fat%20all/messages")
    assert answer.status_code in {200, 404}
    answer = await service.client.get("/api/conversations/none/messages")
    assert answer.json() == {"items": [], "next": None, "hasMore": False}


async def test_a_cursor_that_was_not_made_for_the_conversation_is_refused(
    service: Service,
) -> None:
    await service.post(message())
    await _persisted(service, 1)
    url = "/api/conversations/{}/messages"
    cursor = (await service.client.get(url.format("test_conv_001"))).json()["next"]
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=="))
    raw[3] ^= 1
    forged = base64.urlsafe_b64encode(bytes(raw[:-1] + b"\0")).decode().rstrip("=")
    for conversation, given in [
        ("another", cursor),
        ("test_conv_001", "nonsense"),
        ("test_conv_001", forged),
        ("test_conv_001", cursor + "A"),
        ("test_conv_001", "é"),
        ("test_conv_001", ""),
    ]:
        answer = await service.client.get(url.format(conversation), params={"after": given})
        assert answer.status_code == 422, given
        assert answer.json()["errors"][0]["field"] == "after"


async def test_a_message_shows_its_place_in_each_log(service: Service) -> None:
    ack = (await service.post(message())).json()
    await _persisted(service, 1)
    await service.pool.execute(
        "INSERT INTO message_positions VALUES ($1, 'kafka', 3, '41', now())", ack["messageId"]
    )
    view = (await service.client.get(f"/api/messages/{ack['messageId']}")).json()
    assert [position["transport"] for position in view["positions"]] == ["redis", "kafka"]
    assert view["positions"][1] == {"transport": "kafka", "partition": 3, "offset": "41"}
