"""Receipts: idempotent, behind their message, never without one."""

from __future__ import annotations

import asyncio

import pytest

from tests.ingress.conftest import Service, message, working
from tests.support.eventually import eventually
from transport.contract import DeadLetter, Reason, Topic
from transport.message.envelope import Receipt, decode
from transport.message.identity import partition_of


async def _post(service: Service, identifier: str, body: dict, **headers: str):
    return await service.client.post(
        f"/api/messages/{identifier}/receipts", json=body, headers=headers
    )


async def _receipts(service: Service, identifier: str) -> list[dict]:
    answer = await service.client.get(f"/api/messages/{identifier}/receipts")
    assert answer.status_code == 200
    return answer.json()["items"]


READ = {"userId": "user_002", "state": "read"}


async def test_a_receipt_of_a_pending_message_stands_behind_it(service: Service) -> None:
    identifier = (await service.post(message())).json()["messageId"]
    answer = await _post(service, identifier, READ, **{"X-Correlation-ID": "r-1"})
    assert answer.status_code == 202
    ack = answer.json()
    assert ack == READ | {
        "messageId": identifier,
        "at": ack["at"],
        "idempotentHit": False,
        "correlationId": "r-1",
    }
    assert answer.headers["x-correlation-id"] == "r-1"
    records = await service.transport.read(Topic.MESSAGES, partition_of(identifier, 16))
    last = decode(records[1])
    assert last == Receipt(identifier, "user_002", "read", ack["at"], "r-1")
    assert await _receipts(service, identifier) == []

    async with working(service):
        await eventually(lambda: _receipts(service, identifier))
    assert await _receipts(service, identifier) == [READ | {"at": ack["at"]}]
    view = (await service.client.get(f"/api/messages/{identifier}")).json()
    assert view["receipts"] == [READ | {"at": ack["at"]}]


@pytest.mark.parametrize("persisted", [False, True])
async def test_a_repeat_is_200_with_the_first_time(service: Service, persisted: bool) -> None:
    identifier = (await service.post(message())).json()["messageId"]
    first = (await _post(service, identifier, READ)).json()
    if persisted:
        async with working(service):
            await eventually(lambda: _receipts(service, identifier))
    again = await _post(service, identifier, READ)
    assert again.status_code == 200
    assert again.json() == first | {"idempotentHit": True}
    other = await _post(service, identifier, READ | {"state": "delivered"})
    assert other.status_code == 202


async def test_repeats_at_the_same_time_are_one(service: Service) -> None:
    identifier = (await service.post(message())).json()["messageId"]
    answers = await asyncio.gather(*(_post(service, identifier, READ) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [202]
    assert len({answer.json()["at"] for answer in answers}) == 1
    assert await service.records() == 2


async def test_a_receipt_of_nothing_is_404(service: Service) -> None:
    missing = "00000000-0000-8000-8000-000000000001"
    assert (await _post(service, missing, READ)).status_code == 404
    answer = await service.client.get(f"/api/messages/{missing}/receipts")
    assert answer.status_code == 404


async def test_a_receipt_of_a_dead_letter_is_409(service: Service, index_dead_letters) -> None:
    ack = (await service.post(message())).json()
    (record,) = await service.transport.read(Topic.MESSAGES, partition_of(ack["messageId"], 16))
    letter = DeadLetter(record, Reason.REJECTED, "can't be stored", 3, ack["acceptedAt"])
    await service.transport.dead_letter([letter])
    await index_dead_letters(service)
    answer = await _post(service, ack["messageId"], READ)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflicting-state")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"userId": "", "state": "read"}, "userId"),
        ({"userId": "u" * 257, "state": "read"}, "userId"),
        ({"userId": "a\0", "state": "read"}, "userId"),
        ({"userId": 3, "state": "read"}, "userId"),
        ({"state": "read"}, "userId"),
        ({"userId": "u", "state": "seen"}, "state"),
        ({"userId": "u", "state": "read", "nope": 1}, "nope"),
    ],
)
async def test_a_faulty_receipt_is_422(service: Service, body: dict, field: str) -> None:
    identifier = (await service.post(message())).json()["messageId"]
    answer = await _post(service, identifier, body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "body", [b"{", b"", b'{"userId": "\xff"}', b"[" * 60_000, b'{"userId":' + b"9" * 5000 + b"}"]
)
async def test_a_receipt_that_is_no_json_is_4xx(service: Service, body: bytes) -> None:
    identifier = (await service.post(message())).json()["messageId"]
    answer = await service.client.post(
        f"/api/messages/{identifier}/receipts",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
