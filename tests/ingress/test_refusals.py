"""Whatever a client can get wrong is answered 4xx, and says what and how to do better."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.ingress.conftest import JSON, Service, message, working
from tests.support.eventually import eventually

URL = "/api/messages"


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"conversationId": ""}, "conversationId", "empty"),
        ({"conversationId": "x" * 257}, "conversationId", "257 characters"),
        ({"senderId": None}, "senderId", "null, not a string"),
        ({"senderId": 7}, "senderId", "a number, not a string"),
        ({"senderId": True}, "senderId", "a boolean"),
        ({"content": ["x"]}, "content", "an array"),
        ({"content": {"x": 1}}, "content", "an object"),
        ({"content": "x" * 65_537}, "content", "65537 bytes"),
        ({"content": "\u20ac" * 21_846}, "content", "65538 bytes"),
        ({"content": "a\0b"}, "content", "U+0000"),
        ({"clientMessageId": "a\0b"}, "clientMessageId", "U+0000"),
        ({"contentType": "x" * 129}, "contentType", "129 characters"),
        ({"recipientIds": "user_002"}, "recipientIds", "a string, not an array"),
        ({"recipientIds": ["a", ""]}, "recipientIds[1]", "empty"),
        ({"recipientIds": ["a", 3]}, "recipientIds[1]", "a number"),
        ({"recipientIds": ["a"] * 1001}, "recipientIds", "1001 entries"),
        ({"recipientIds": ["a\0"]}, "recipientIds[0]", "U+0000"),
        ({"convresationId": "x"}, "convresationId", "not a known field"),
    ],
)
async def test_a_faulty_field_is_named(
    service: Service, change: dict[str, Any], field: str, words: str
) -> None:
    answer = await service.post(message(**change))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]
    assert error["remedy"]
    assert field in answer.json()["detail"]
    assert await service.records() == 0


async def test_every_faulty_field_is_named_at_once(service: Service) -> None:
    answer = await service.post({"conversationId": "", "senderId": 1, "nope": 2})
    named = [error["field"] for error in answer.json()["errors"]]
    assert sorted(named) == ["content", "conversationId", "nope", "senderId"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", "x" * 65_536),
        ("content", ""),
        ("content", "a: b, \"c\": 'd' {e}: \\u0000 \\\\"),
        ("content", "\U0001f600 \u4f60\u597d \x7f\x01"),
        ("conversationId", "\U0001f600" * 256),
        ("clientMessageId", "a:b%c"),
        ("recipientIds", []),
        ("recipientIds", ["a"] * 1000),
        ("recipientIds", ["conversationId", "senderId"]),
    ],
)
async def test_what_is_just_allowed_is_accepted(service: Service, field: str, value: Any) -> None:
    answer = await service.post(message(**{field: value}))
    assert answer.status_code == 202, answer.text
    view = (await service.client.get(f"{URL}/{answer.json()['messageId']}")).json()
    assert view[field] == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"conversationId": "a"} trailing',
        b'{"content": "\xff"}',
        b'{"content": "\xed\xa0\x80"}',
        b'{"content": "a\nb"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xef\xbb\xbf{}",
        b"{'content': 'x'}",
        b'{"content": NaN}',
    ],
)
async def test_a_body_that_is_not_json_is_400(service: Service, body: bytes) -> None:
    answer = await service.client.post(URL, content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    if not body.startswith(b"["):
        assert answer.json()["type"] == "/problems/malformed-body"


@pytest.mark.parametrize("body", [b"null", b"3", b'"x"', b"[]", b"true"])
async def test_json_that_is_no_object_is_422(service: Service, body: bytes) -> None:
    answer = await service.client.post(URL, content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "(body)"


@pytest.mark.parametrize(
    "extra",
    [
        b'"content": "other"',
        b'"\\u0063ontent": "other"',
        b'"content" : "other"',
        b'"recipientIds": []',
    ],
)
async def test_a_name_given_twice_is_refused(service: Service, extra: bytes) -> None:
    body = json.dumps(message()).encode()[:-1] + b", " + extra + b"}"
    answer = await service.client.post(URL, content=body, headers=JSON)
    assert answer.status_code == 400
    assert "more than once" in answer.json()["detail"]


async def test_a_huge_number_is_no_trouble(service: Service) -> None:
    body = json.dumps(message()).encode().replace(b'"test_conv_001"', b"9" * 50_000)
    answer = await service.client.post(URL, content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "conversationId: is a number, not a string"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "There is no Content-Type"),
        ({"Content-Type": "text/plain"}, "text/plain"),
        ({"Content-Type": "application/xml"}, "application/xml"),
        ({"Content-Type": "application/json; charset=latin1"}, "UTF-8"),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, "Content-Encoding"),
    ],
)
async def test_another_media_type_is_415(
    service: Service, headers: dict[str, str], words: str
) -> None:
    body = json.dumps(message()).encode()
    answer = await service.client.post(URL, content=body, headers=headers)
    assert answer.status_code == 415
    assert words in answer.json()["detail"]
    receipts = f"{URL}/00000000-0000-8000-8000-000000000001/receipts"
    assert (await service.client.post(receipts, content=body, headers=headers)).status_code == 415


@pytest.mark.parametrize(
    "given",
    ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"'],
)
async def test_json_by_its_other_names_is_taken(service: Service, given: str) -> None:
    body = json.dumps(message()).encode()
    answer = await service.client.post(URL, content=body, headers={"Content-Type": given})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", URL, 405, "OPTIONS, POST"),
        ("DELETE", URL, 405, "OPTIONS, POST"),
        ("HEAD", URL, 405, "OPTIONS, POST"),
        ("PUT", f"{URL}:batch", 405, "OPTIONS, POST"),
        ("OPTIONS", URL, 204, "OPTIONS, POST"),
        ("OPTIONS", f"{URL}/x/receipts", 204, "GET, HEAD, OPTIONS, POST"),
        ("PATCH", f"{URL}/x/receipts", 405, "GET, HEAD, OPTIONS, POST"),
        ("POST", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/nothing", 404, None),
        ("GET", "/nothing", 404, None),
        ("POST", "/api/messages/", 404, None),
        ("GET", "/api/messages:batch/x", 404, None),
    ],
)
async def test_other_methods_and_paths_are_problems_too(
    service: Service, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = await service.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == allow
    if status != 204:
        assert answer.headers["content-type"] == "application/problem+json"
    if method != "HEAD" and status != 204:
        assert answer.json()["status"] == status


async def test_head_is_get_without_its_body(service: Service) -> None:
    answer = await service.client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


async def test_a_key_too_long_for_the_index_is_refused_and_the_longest_is_stored(
    service: Service,
) -> None:
    """Accepted, it would become a dead letter: PostgreSQL can't index it."""
    long = {name: chr(0x1F600 + k) * 256 for k, name in enumerate(("conversationId", "senderId"))}
    fits = "".join(random.Random(1).choices("abcdefghijklmnop", k=256))
    refused = await service.post(message(**long, clientMessageId="\U0001f500" * 200))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "clientMessageId"
    batch = await service.client.post(
        f"{URL}:batch", json=[message(**long, clientMessageId="\U0001f500" * 200), message(1)]
    )
    assert [result["status"] for result in batch.json()] == [422, 202]
    random_ids = {
        name: "".join(chr(random.Random(name).randrange(0x10000, 0x1F000) + k) for k in range(256))
        for name in long
    }
    accepted = await service.post(message(**random_ids, clientMessageId=fits))
    assert accepted.status_code == 202
    async with working(service):

        async def both() -> bool:
            return len(await service.rows()) == 2

        await eventually(both)
