"""``GET /api/messages/{id}/content``: of any message, whole or in parts, wherever it is kept."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from persistence.payloads.store import PayloadStore
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.test_key_prefixes import ALICE, ENTRIES, as_
from tests.payloads.stores import folder_of, opened
from tests.support.eventually import eventually

TEXT = "größer als die Schwelle, " * 400
BYTES = TEXT.encode()
ETAG = f'"{sha256(BYTES).hexdigest()}"'


@pytest.fixture
def store(tmp_path: Path) -> PayloadStore:
    return opened(f"file://{tmp_path}/payloads", payload_row_bytes=5000)


@pytest.fixture
async def service(start: Start, store: PayloadStore) -> Service:
    return await start(payloads=store)


async def _sent(service: Service, content: str = TEXT, **changes: Any) -> str:
    answer = await service.post(message(1, content=content, **changes))
    assert answer.status_code == 202
    identifier: str = answer.json()["messageId"]
    return identifier


async def _sent_as_form(service: Service, content: bytes) -> str:
    head = {name: value for name, value in message(2).items() if name != "content"}
    files = [("message", (None, json.dumps(head))), ("content", ("content", content))]
    answer = await service.client.post("/api/messages", files=files)
    assert answer.status_code == 202
    identifier: str = answer.json()["messageId"]
    return identifier


async def _persisted(service: Service, content: str = TEXT, **changes: Any) -> str:
    identifier = await _sent(service, content, **changes)
    async with working(service):
        await eventually(service.rows)
    return identifier


async def _get(service: Service, identifier: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await service.client.get(f"/api/messages/{identifier}/content", headers=named)


async def test_content_is_the_same_while_it_waits_in_its_row_and_in_the_store_alone(
    service: Service,
) -> None:
    identifier = await _sent(service)
    waiting = await _get(service, identifier)
    shown = (await service.client.get(f"/api/messages/{identifier}")).json()
    assert (shown["state"], shown["content"]) == ("pending", None)
    async with working(service):
        await eventually(service.rows)
    alone = await _get(service, identifier)
    for answer in (waiting, alone):
        assert answer.status_code == 200
        assert answer.content == BYTES
        assert answer.headers["ETag"] == ETAG
        assert answer.headers["Content-Length"] == str(len(BYTES))
    shown = (await service.client.get(f"/api/messages/{identifier}")).json()
    assert shown["state"] == "persisted"
    assert shown["content"] is None
    assert shown["payload"] == {
        "bytes": len(BYTES),
        "sha256": ETAG.strip('"'),
        "contentType": "text",
        "url": f"/api/messages/{identifier}/content",
    }
    (item,) = (await service.client.get("/api/conversations/test_conv_001/messages")).json()[
        "items"
    ]
    assert (item["content"], item["payload"]) == (None, shown["payload"])


async def test_small_content_is_read_from_the_row(service: Service, store: PayloadStore) -> None:
    identifier = await _persisted(service, "héllo")
    answer = await _get(service, identifier, Range="bytes=1-2")
    assert (answer.status_code, answer.content) == (206, "é".encode())
    shown = (await service.client.get(f"/api/messages/{identifier}")).json()
    assert (shown["content"], shown["payload"]) == ("héllo", None)


WHOLE = (200, 0, len(BYTES))
RANGES = {
    "bytes=0-0": (206, 0, 1),
    "bytes=100-199": (206, 100, 200),
    "bytes=100-": (206, 100, len(BYTES)),
    "bytes=-7": (206, len(BYTES) - 7, len(BYTES)),
    "bytes= -": WHOLE,
    "bytes=0-999999999": (206, 0, len(BYTES)),
    "bytes=-999999999": (206, 0, len(BYTES)),
    f"bytes={len(BYTES)}-": (416, 0, 0),
    "bytes=-0": (416, 0, 0),
    "bytes=999999999999999999-": (416, 0, 0),
    # What is no range, or several, is answered with all of it (RFC 9110, 14.2).
    "bytes=9999999999999999999-": WHOLE,
    "bytes=5-4": WHOLE,
    "bytes=0-1,5-6": WHOLE,
    "bytes=-": WHOLE,
    "lines=1-2": WHOLE,
}


async def test_a_range_is_served_from_the_store(service: Service) -> None:
    identifier = await _sent(service)
    for asked, (status, begin, end) in RANGES.items():
        answer = await _get(service, identifier, Range=asked)
        assert answer.status_code == status, asked
        if status == 416:
            assert answer.headers["Content-Range"] == f"bytes */{len(BYTES)}"
            assert answer.json()["type"] == "/problems/range-not-satisfiable"
            continue
        assert answer.content == BYTES[begin:end], asked
        if status == 206:
            assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(BYTES)}"


async def test_conditions_are_compared_with_the_digest(service: Service) -> None:
    identifier = await _sent(service)
    assert (await _get(service, identifier, If_None_Match=f'W/"x", {ETAG}')).status_code == 304
    assert (await _get(service, identifier, If_None_Match="*")).status_code == 304
    assert (await _get(service, identifier, If_None_Match='"x"')).status_code == 200
    part = await _get(service, identifier, Range="bytes=0-9", If_Range=ETAG)
    assert (part.status_code, len(part.content)) == (206, 10)
    whole = await _get(service, identifier, Range="bytes=0-9", If_Range='"other"')
    assert (whole.status_code, len(whole.content)) == (200, len(BYTES))


async def test_head_says_the_same_and_asks_the_store_nothing(
    service: Service, store: PayloadStore
) -> None:
    identifier = await _sent(service)
    get = await _get(service, identifier)
    (folder_of(store) / f"{identifier}/{ETAG.strip(chr(34))}").unlink()
    head = await service.client.head(f"/api/messages/{identifier}/content")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("ETag", "Content-Length", "Content-Type", "Accept-Ranges"):
        assert head.headers[name] == get.headers[name]


SERVED = {
    "text": "text/plain; charset=utf-8",
    "image/png": "image/png",
    "text/html": "text/html; charset=utf-8",
    "application/json; a=b": "application/json; a=b",
    "Text/JavaScript": "application/octet-stream",
    "application/x-javascript; charset=utf-8": "application/octet-stream",
    "text/css": "application/octet-stream",
    "picture": "application/octet-stream",
    "text/html\r\nX: y": "application/octet-stream",
    "größe/groß": "application/octet-stream",
}


async def test_a_browser_neither_guesses_nor_runs_what_a_sender_sent(service: Service) -> None:
    for number, (declared, served) in enumerate(SERVED.items()):
        identifier = await _sent(service, contentType=declared, clientMessageId=f"type{number}")
        answer = await _get(service, identifier)
        assert answer.headers["Content-Type"] == served
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "X" not in answer.headers


async def test_a_key_with_a_prefix_reads_content_as_it_reads_messages(
    start: Start, store: PayloadStore
) -> None:
    service = await start(payloads=store, api_keys=",".join(ENTRIES))
    body = message(1, content=TEXT, senderId=ALICE)
    answer = await service.client.post("/api/messages", json=body, headers=as_("all"))
    identifier = answer.json()["messageId"]
    for name, status in (("all", 200), ("alice", 200), ("ours", 404), ("nobody", 401)):
        assert (await _get(service, identifier, **as_(name))).status_code == status


async def test_a_missing_and_a_damaged_object_are_told_and_never_served_whole(
    service: Service, store: PayloadStore
) -> None:
    identifier = await _sent(service)
    path = folder_of(store) / f"{identifier}/{ETAG.strip(chr(34))}"
    long = await _sent_as_form(service, BYTES * 60)
    (its_path,) = (folder_of(store) / long).iterdir()
    its_path.write_bytes(BYTES * 59 + BYTES[:-1] + b"!")  # found when most of it was sent
    with pytest.raises(httpx.RemoteProtocolError):
        await _get(service, long)
    path.write_bytes(BYTES[:-1] + b"!")  # of the right length: found before the status is sent
    damaged = await _get(service, identifier)
    path.write_bytes(BYTES[:-1])
    for answer in (
        damaged,
        await _get(service, identifier),
        await _get(service, identifier, Range="bytes=0-1"),
    ):
        assert answer.status_code == 500
        assert answer.json()["type"] == "/problems/payload-damaged"
    path.unlink()
    answer = await _get(service, identifier)
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/payload-damaged")
    (folder_of(store) / ".crossfade-payloads").unlink()  # a disk that is not mounted
    answer = await _get(service, identifier)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["type"] == "/problems/payloads-unavailable"


async def test_a_process_without_the_store_says_so(service: Service, start: Start) -> None:
    identifier = await _sent(service)
    answer = await _get(await start(), identifier)
    assert answer.status_code == 503
    assert "PAYLOAD_STORE" in answer.json()["detail"]


async def test_large_content_is_streamed_to_a_reader_that_stops(service: Service) -> None:
    identifier = await _sent(service, "x" * 60_000)
    async with service.client.stream("GET", f"/api/messages/{identifier}/content") as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_raw())
    assert (await _get(service, identifier)).status_code == 200


async def test_content_can_be_read_at_its_store_where_the_operator_wants_it(
    start: Start, s3_settings: dict[str, str]
) -> None:
    """A redirect to a URL that the store signs; HEAD is answered here, where no store is needed."""
    settings = {name.lower(): value for name, value in s3_settings.items()}
    store = opened(settings.pop("payload_store"), payload_redirect=True, **settings)
    service = await start(payloads=store)
    identifier = await _sent(service)
    answer = await _get(service, identifier)
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "no-store"
    async with httpx.AsyncClient() as anyone:
        there = await anyone.get(answer.headers["Location"], headers={"Range": "bytes=0-9"})
    assert (there.status_code, there.content) == (206, BYTES[:10])
    head = await service.client.head(f"/api/messages/{identifier}/content")
    assert (head.status_code, head.headers["ETag"]) == (200, ETAG)
    small = await _sent(service, "small", clientMessageId="other")
    assert (await _get(service, small)).content == b"small"


async def test_many_read_at_once(service: Service) -> None:
    identifier = await _sent(service)
    answers = await asyncio.gather(*(_get(service, identifier) for _ in range(20)))
    assert {answer.content for answer in answers} == {BYTES}
