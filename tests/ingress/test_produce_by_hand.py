"""A test message from the console: on record, for keys that may act and produce, never forged."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import httpx
import pytest

from ingress.web.browser import COOKIE, cookie
from tests.ingress.conftest import Service, Start, working
from tests.support.eventually import eventually

_PATH = "/api/console/messages"
_BODY = {
    "conversationId": "room:1", "senderId": "ann", "content": "Hello", "clientMessageId": "by-hand",
    "why": "to see it work",
}  # fmt: skip
_KEYS = {"both": "admin+produce", "acts": "admin+read", "sends": "produce+read"}


async def _start(start: Start) -> Service:
    entries = [f"{n}:{s}:{sha256(f'cf_{n}'.encode()).hexdigest()}" for n, s in _KEYS.items()]
    return await start(api_keys=",".join(entries))


async def _send(service: Service, headers: dict[str, str], **changes: Any) -> httpx.Response:
    return await service.client.post(_PATH, json=_BODY | changes, headers=headers)


async def test_it_goes_the_way_of_every_message_and_is_on_record(service: Service) -> None:
    first = await _send(service, {}, correlationId="of-mine", recipientIds=["bob"])
    assert first.status_code == 202, first.text
    ack = first.json()
    assert (ack["idempotencyKey"], ack["log"]) == ("ann:room%3A1:by-hand", "redis")
    assert (ack["correlationId"], ack["status"]) == ("of-mine", 202)
    again = await _send(service, {}, recipientIds=["bob"])
    assert (again.status_code, again.json()["messageId"]) == (200, ack["messageId"])
    other = await _send(service, {}, content="Something else")
    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-conflict"
    async with working(service):

        async def is_row() -> bool:
            return len(await service.rows()) == 1

        await eventually(is_row)
    (row,) = await service.rows()
    assert (str(row["id"]), row["content"], row["recipient_ids"]) == (
        ack["messageId"], "Hello", ["bob"],
    )  # fmt: skip
    async with service.pool.acquire() as connection:
        actions = await connection.fetch("SELECT * FROM operator_actions ORDER BY id")
    assert [(action["action"], action["target"], action["why"]) for action in actions] == [
        ("produce", "a message of ann in room:1", "to see it work")
    ] * 3
    assert actions[0]["result"] == f"message {ack['messageId']}"
    assert actions[1]["result"] == f"message {ack['messageId']}, accepted before"
    assert actions[2]["result"].startswith("failed: ")


async def test_what_is_no_message_is_refused_and_not_on_record(service: Service) -> None:
    for changes in (
        {"conversationId": ""}, {"senderId": "x" * 257}, {"why": ""}, {"content": "\0"},
        {"odd": 1}, {"correlationId": "a b"}, {"content": "x" * 65_000 + "é" * 300},
    ):  # fmt: skip
        answer = await _send(service, {}, **changes)
        assert answer.status_code in {413, 422}, changes
    assert await service.records() == 0
    async with service.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM operator_actions") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"conversationId": 5, "senderId": "", "content": "\0", "odd": 1},
        {"contentType": None, "recipientIds": ["", 7]},
        {"clientMessageId": "x" * 257, "content": 10**30},
    ],
)
async def test_each_fault_of_the_message_is_named_as_elsewhere(
    service: Service, changes: dict[str, Any]
) -> None:
    by_hand = await _send(service, {}, **changes)
    elsewhere = await service.post({k: v for k, v in (_BODY | changes).items() if k != "why"})
    assert (by_hand.status_code, elsewhere.status_code) == (422, 422)
    assert by_hand.json()["errors"] == elsewhere.json()["errors"]


@pytest.mark.parametrize("depth", [10, *range(860, 1000, 10), 5000])
async def test_what_is_nested_deeply_is_refused(service: Service, depth: int) -> None:
    body = f'{{"why": "x", "content": {"[" * depth}{"]" * depth}}}'
    headers = {"Content-Type": "application/json"}
    answer = await service.client.post(_PATH, content=body, headers=headers)
    assert answer.status_code in {400, 422}


async def test_half_a_character_is_refused(service: Service) -> None:
    body = json.dumps(_BODY | {"content": "\ud800"})
    headers = {"Content-Type": "application/json"}
    answer = await service.client.post(_PATH, content=body, headers=headers)
    assert answer.status_code == 400


async def test_it_takes_both_scopes(start: Start) -> None:
    service = await _start(start)
    for name, status in (("acts", 403), ("sends", 403), ("nobody", 401), ("both", 202)):
        answer = await _send(service, {"X-API-Key": f"cf_{name}"})
        assert answer.status_code == status, answer.text
        if status == 403:
            assert "lacks the scope" in answer.json()["detail"]
    assert await service.records() == 1
    for name, may in (("both", True), ("acts", False), ("sends", False)):
        session = await service.client.get(
            "/api/console/session", headers={"X-API-Key": f"cf_{name}"}
        )
        assert session.json()["mayProduce"] is may


async def test_no_other_site_sends_with_the_browsers_key(start: Start) -> None:
    service = await _start(start)
    held = cookie(b"cf_both", {}).partition(";")[0]
    assert held.startswith(COOKIE)
    for headers, status in (
        ({}, 403),
        ({"X-Crossfade-Console": "1", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Crossfade-Console": "1", "Origin": "http://evil.test"}, 403),
        ({"X-Crossfade-Console": "1", "Sec-Fetch-Site": "same-origin"}, 202),
    ):
        answer = await _send(service, {"Cookie": held, **headers})
        assert answer.status_code == status, (headers, answer.text)
    assert await service.records() == 1
