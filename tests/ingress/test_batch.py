"""``POST /api/messages:batch``: many messages, each with its own answer, in order."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.ingress.conftest import JSON, Service, message, working
from tests.ingress.gated_log import GatedLog
from tests.support.eventually import eventually
from transport.contract import Topic
from transport.errors import TransportUnavailable
from transport.message.envelope import decode
from transport.message.identity import partition_of

URL = "/api/messages:batch"
LINES = "application/x-ndjson"


def _lines(bodies: list[dict]) -> bytes:
    return "\n".join(json.dumps(body) for body in bodies).encode()


async def _post(service: Service, bodies: list, ndjson: bool, **headers: str) -> httpx.Response:
    if not ndjson:
        return await service.client.post(URL, json=bodies, headers=headers)
    return await service.client.post(
        URL, content=_lines(bodies), headers={"Content-Type": LINES, **headers}
    )


def _results(answer: httpx.Response, ndjson: bool) -> list[dict]:
    assert answer.status_code == 207, answer.text
    assert answer.headers["content-type"] == (LINES if ndjson else "application/json")
    return [json.loads(line) for line in answer.text.splitlines()] if ndjson else answer.json()


@pytest.mark.parametrize("ndjson", [False, True])
async def test_a_batch_is_answered_in_order_and_stands_in_the_log_in_order(
    service: Service, ndjson: bool
) -> None:
    bodies = [message(number) for number in range(50)]
    results = _results(await _post(service, bodies, ndjson, **{"X-Correlation-ID": "b"}), ndjson)
    assert [result["status"] for result in results] == [202] * 50
    assert {result["correlationId"] for result in results} == {"b"}
    singles = [(await service.post(body)).json() for body in bodies]
    assert [result["messageId"] for result in results] == [
        single["messageId"] for single in singles
    ]
    records = await service.transport.read(
        Topic.MESSAGES, partition_of(results[0]["messageId"], 16)
    )
    assert [decode(record).content for record in records] == [body["content"] for body in bodies]


@pytest.mark.parametrize("ndjson", [False, True])
async def test_a_bad_item_sinks_no_other(service: Service, ndjson: bool) -> None:
    await service.post(message(1))
    without_key = message(5)
    del without_key["clientMessageId"]
    bodies = [
        message(0),
        message(1),
        message(1, content="other"),
        message(2, senderId=""),
        message(3, nope=1),
        message(4, content="a\0b"),
        without_key,
        "no object",
        message(6),
        message(6),
        message(6, content="other"),
    ]
    results = _results(await _post(service, bodies, ndjson), ndjson)
    assert [result["status"] for result in results] == [
        202, 200, 422, 422, 422, 422, 422, 422, 202, 200, 422,
    ]  # fmt: skip
    assert results[2]["type"] == results[10]["type"] == "/problems/idempotency-conflict"
    assert [result["errors"][0]["field"] for result in results[3:8]] == [
        "senderId", "nope", "content", "clientMessageId", "(body)",
    ]  # fmt: skip
    assert results[9]["acceptedAt"] == results[8]["acceptedAt"]
    assert await service.records() == 3
    value = service.metrics.registry.get_sample_value
    assert value("idempotency_hit_total", {"operation": "ingress"}) == 2


async def test_a_line_that_is_no_json_is_its_own_fault(service: Service) -> None:
    body = b"\r\n".join(
        [_lines([message(0)]), b"{nonsense", b"", b'{"content": "\xff"}', _lines([message(1)]), b""]
    )
    answer = await service.client.post(URL, content=body, headers={"Content-Type": LINES})
    assert [result["status"] for result in _results(answer, True)] == [202, 400, 400, 202]


async def test_a_name_given_twice_is_found_in_a_batch(service: Service) -> None:
    good = json.dumps(message(0))
    twice = json.dumps(message(1))[:-1] + ', "content": "other"}'
    answer = await service.client.post(URL, content=f"[{good}, {twice}]", headers=JSON)
    assert [result["status"] for result in _results(answer, False)] == [202, 400]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b"{}", 422),
        (b"null", 422),
        (b"[{]", 400),
        (b"", 400),
        (b"[" * 100_000, 400),
        (json.dumps([message(n) for n in range(1001)]).encode(), 422),
    ],
)
async def test_a_body_that_is_no_batch_is_refused(
    service: Service, body: bytes, status: int
) -> None:
    answer = await service.client.post(URL, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await service.records() == 0


async def test_a_thousand_are_allowed(service: Service) -> None:
    bodies = [message(n, conversationId=f"conv_{n % 40}") for n in range(1000)]
    results = _results(await _post(service, bodies, False), False)
    assert [result["status"] for result in results] == [202] * 1000
    assert await service.records() == 1000


async def test_one_key_can_not_stand_for_many(service: Service) -> None:
    answer = await _post(service, [message()], False, **{"Idempotency-Key": "x"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_repeats_in_a_batch_are_answered_from_their_rows(service: Service) -> None:
    bodies = [message(number) for number in range(20)]
    first = _results(await _post(service, bodies[:10], False), False)
    async with working(service):
        await eventually(service.rows)

        async def all_there() -> bool:
            return len(await service.rows()) == 10

        await eventually(all_there)
    results = _results(await _post(service, bodies, True), True)
    assert [result["status"] for result in results] == [200] * 10 + [202] * 10
    assert [result["state"] for result in results] == ["persisted"] * 10 + ["pending"] * 10
    assert [result["acceptedAt"] for result in results[:10]] == [
        result["acceptedAt"] for result in first
    ]


async def test_a_batch_no_message_of_which_goes_in_is_503(gated: GatedLog, start) -> None:
    service = await start(transport=gated)
    first = await _post(service, [message(0)], False)
    assert first.status_code == 207
    async with working(service):
        await eventually(service.rows)
    gated.fail_with = TransportUnavailable("down")
    answer = await _post(service, [message(1), message(2)], False)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/log-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    some = await _post(service, [message(0), message(1)], False)
    assert [result["status"] for result in _results(some, False)] == [200, 503]
    assert int(some.headers["retry-after"]) >= 1


async def test_a_batch_stays_in_one_append(gated: GatedLog, start) -> None:
    """In two, the second could overtake the first, and with it the order of a conversation."""
    service = await start(transport=gated, ingress_append_records=3, ingress_appends_in_flight=1)
    gated.gate.clear()
    tasks = [asyncio.create_task(service.post(message(99)))]
    await eventually(lambda: gated.waiting == 1)
    tasks += [
        asyncio.create_task(_post(service, [message(10 * n + k) for k in range(5)], False))
        for n in range(3)
    ]
    commits = service.app.accept.commits
    await eventually(lambda: commits.held == 16)
    gated.gate.set()
    await asyncio.gather(*tasks)
    assert [len(sent) for sent in gated.published] == [1, 5, 5, 5]
