"""What a client's author reads about a request at fault: the cause, and what to send instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingress.routes.near_paths import PATHS, near_path
from ingress.schema.json_faults import json_fault
from tests.ingress.conftest import JSON, Service, message

URL = "/api/messages"
RECEIPTS = "/api/messages/00000000-0000-8000-8000-000000000001/receipts"
BOTH = pytest.mark.parametrize("url", [URL, RECEIPTS])


@BOTH
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b'{"state": "re', "ends before it is complete"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"userId": NaN}', "JSON has no value NaN (byte 11)"),
        (b'{"userId": None}', "JSON has no value None"),
        (b'{"userId": "\\ud800', "half of a surrogate pair"),
        (b'{"userId": "\xff"}', "not UTF-8"),
        ('{"state": "read"}'.encode("utf-16"), "not UTF-8"),
        (b'{"state": "read", "state": "delivered"}', "'state' stands more than once"),
        (b'{"a": [{"b": 1, "b": 2}]}', "b"),
    ],
)
async def test_a_body_that_is_not_json_is_told_why(
    service: Service, url: str, body: bytes, words: str
) -> None:
    answer = await service.client.post(url, content=body, headers=JSON)
    assert answer.status_code in {400, 422}, answer.text
    problem = answer.json()
    if url == RECEIPTS and not body:
        assert problem["detail"] == "(body): is missing"
    elif words != "b":
        assert problem["type"] == "/problems/malformed-body"
        assert words in problem["detail"]


async def test_a_body_that_is_nested_too_deeply_is_told_why(service: Service) -> None:
    """It depends on the Python: 1,000 levels, or as many as its stack has room for."""
    answer = await service.client.post(URL, content=b"[" * 1_000_000, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-body")
    assert "nested too deeply" in answer.json()["detail"]


def test_a_pair_of_surrogates_and_an_escaped_backslash_are_no_halves() -> None:
    for whole in (b'{"a": "\\ud83d\\ude00', b'{"a": "\\\\ud83d'):
        fault = json_fault(whole)
        assert fault is not None
        assert fault.detail == "The JSON ends before it is complete."


async def test_half_a_surrogate_pair_names_its_field(service: Service) -> None:
    """JavaScript's ``slice`` cuts an emoji into halves, and ``JSON.stringify`` escapes them."""
    names = {"content": "content", "conversationId": "conversationId", "\ud83d": "\\ud83d"}
    for name, shown in names.items():
        body = json.dumps(message() | {name: "cut \ud83d"})
        answer = await service.client.post(URL, content=body, headers=JSON)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == shown
        assert error["message"] in {"holds half of a surrogate pair", "is not a known field"}
    body = json.dumps(message(recipientIds=["whole \U0001f600", "\ude00"]))
    errors = (await service.client.post(URL, content=body, headers=JSON)).json()["errors"]
    assert [error["field"] for error in errors] == ["recipientIds[1]"]
    body = json.dumps({"userId": "\ud800", "state": "read"})
    receipt = await service.client.post(RECEIPTS, content=body, headers=JSON)
    assert receipt.status_code == 400
    assert "half of a surrogate pair, which is no character; send whole" in receipt.json()["detail"]


@pytest.mark.parametrize("between", [",", " ,\n\t", ",  "])
async def test_half_a_surrogate_pair_fails_only_its_message_of_a_batch(
    service: Service, between: str
) -> None:
    texts = ["a \\ud83d\\ude00", "b \\ude00", "c \\\\ud83d, [", "\\ud83dd", "e"]
    items = [json.dumps(message(n, content="?")).replace("?", t) for n, t in enumerate(texts)]
    body = f" [ {between.join(items)}\n]".encode()
    answer = await service.client.post(f"{URL}:batch", content=body, headers=JSON)
    assert answer.status_code == 207, answer.text
    results = answer.json()
    assert [result["status"] for result in results] == [202, 422, 202, 422, 202]
    assert results[1]["errors"][0]["field"] == "content"
    found = [await service.client.get(f"{URL}/{results[n]['messageId']}") for n in (0, 2, 4)]
    assert [one.json()["content"] for one in found] == ["a \U0001f600", "c \\ud83d, [", "e"]


async def test_a_million_halves_of_surrogate_pairs_are_refused_at_once(service: Service) -> None:
    """A thousand are looked for: each takes time, in which no other request is served."""
    body = json.dumps([message(content="?")]).replace("?", "\\ud800" * 1_000_000)
    answer = await service.client.post(f"{URL}:batch", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "half of a surrogate pair" in answer.json()["detail"]


async def test_a_number_of_thousands_of_digits_is_400(service: Service) -> None:
    body = b'{"userId": 1%b, "state": "read"}' % (b"0" * 5000)
    answer = await service.client.post(RECEIPTS, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["detail"] == "A number has too many digits."


@pytest.mark.parametrize(
    ("body", "field", "said", "remedy"),
    [
        ({"state": "read"}, "userId", "is missing", "Add it."),
        ({"userId": "", "state": "read"}, "userId", "is empty", "Give it a value."),
        ({"userId": 7, "state": "read"}, "userId", "is a number, not a string", "Send a JSON str"),
        ({"userId": None, "state": "read"}, "userId", "is null, not a string", "Send a JSON"),
        ({"userId": "a\0", "state": "read"}, "userId", "holds U+0000", "Leave that character out."),
        ({"userId": "x" * 300, "state": "read"}, "userId", "300 characters", "at most 256"),
        ({"userId": "u", "state": "seen"}, "state", "not a known value", "'delivered' or 'read'"),
        ({"userId": "u", "state": "read", "z": 1}, "z", "not a known field", "Leave it out"),
        ([], "(body)", "is an array, not an object", "Send one JSON object."),
    ],
)
async def test_a_fault_is_worded_alike_on_every_route(
    service: Service, body: Any, field: str, said: str, remedy: str
) -> None:
    answer = await service.client.post(RECEIPTS, content=json.dumps(body), headers=JSON)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert said in error["message"]
    assert remedy in error["remedy"]


@pytest.mark.parametrize(
    ("url", "field", "said"),
    [
        ("/api/messages/abc", "messageId", "is not a message id"),
        ("/api/conversations/c/messages?limit=0", "limit", "is less than 1"),
        ("/api/conversations/c/messages?limit=201", "limit", "is more than 200"),
        ("/api/conversations/c/messages?limit=x", "limit", "is not a whole number"),
        ("/api/conversations/a%00b/messages", "conversationId", "holds U+0000"),
    ],
)
async def test_a_faulty_path_or_query_is_worded_so_too(
    service: Service, url: str, field: str, said: str
) -> None:
    answer = await service.client.get(url)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["message"]) == (field, said)
    assert error["remedy"]


async def test_two_idempotency_keys_are_refused(service: Service) -> None:
    body = {name: value for name, value in message().items() if name != "clientMessageId"}
    keys = [("Idempotency-Key", "a1"), ("Idempotency-Key", "a2")]
    answer = await service.client.post(URL, json=body, headers=keys)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "Idempotency-Key"
    assert await service.records() == 0


@pytest.mark.parametrize(
    "path", ["/api/messages/", "//api//messages", "/messages", "/API/messages"]
)
async def test_a_path_that_is_nearly_right_is_corrected(service: Service, path: str) -> None:
    answer = await service.client.post(f"http://127.0.0.1:{service.port}{path}", json=message())
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"Nothing is at {path}. Did you mean /api/messages?"


async def test_metrics_at_the_port_of_the_api_lead_to_their_own_port(service: Service) -> None:
    answer = await service.client.get("/metrics")
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("Metrics have a port of their own: METRICS_PORT.")


async def test_a_post_to_batch_with_a_slash_is_told_the_right_path(service: Service) -> None:
    answer = await service.client.post("/api/messages/batch", json=[message()])
    assert answer.status_code == 405
    assert answer.json()["detail"].endswith("Did you mean /api/messages:batch?")


@pytest.mark.parametrize("field", ["contentType", "recipientIds"])
async def test_a_field_that_may_be_left_out_says_so_when_it_is_null(
    service: Service, field: str
) -> None:
    """Libraries write fields that were not set as null: Jackson, Go's encoder, json.dumps."""
    answer = await service.client.post(URL, json={**message(), field: None})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert error["remedy"].endswith(", or leave the field out.")


@pytest.mark.parametrize("field", ["conversationId", "content"])
async def test_a_field_that_is_needed_does_not_say_so(service: Service, field: str) -> None:
    answer = await service.client.post(URL, json={**message(), field: None})
    (error,) = answer.json()["errors"]
    assert error["remedy"] == "Send a JSON string."


@pytest.mark.parametrize("content", [{"a": 1}, [1], 7, True])
async def test_content_that_is_data_is_told_how_it_is_sent(service: Service, content: Any) -> None:
    answer = await service.client.post(URL, json={**message(), "content": content})
    (error,) = answer.json()["errors"]
    assert error["field"] == "content"
    assert "as text, and contentType names its kind" in error["remedy"]


async def test_an_array_where_one_message_belongs_is_told_the_path_of_batches(
    service: Service,
) -> None:
    answer = await service.client.post(URL, json=[message()])
    (error,) = answer.json()["errors"]
    assert error["remedy"].endswith("an array of messages goes to /api/messages:batch.")


def test_no_path_is_suggested_for_one_of_another_kind() -> None:
    assert near_path("/favicon.ico") is None
    assert near_path("/" * 5000) is None


async def test_each_path_that_is_suggested_exists(service: Service) -> None:
    for path in PATHS:
        answer = await service.client.options(path)
        assert answer.status_code == 204, path
