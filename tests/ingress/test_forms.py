"""``multipart/form-data``: content of any kind and size, streamed into the payload store."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ingress.schema.requests import MessageRequest
from otel.metrics import Metrics
from persistence.payloads.metrics import PayloadMetrics
from persistence.payloads.store import PayloadStore
from tests.ingress.conftest import Service, Start, message, working
from tests.payloads.stores import folder_of, opened
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from transport.contract import Topic
from transport.message.payload import sha256_in

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OPTIONAL = [
    field.encode_name
    for field in msgspec.structs.fields(MessageRequest)
    if not field.required and field.name != "client_message_id"
]
VALUES = {"contentType": ("image/png", "image/gif"), "recipientIds": (["one"], ["other"])}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


@pytest.fixture
def store(tmp_path: Path) -> PayloadStore:
    return opened(f"file://{tmp_path}/payloads", ingress_max_payload_bytes=20 * 2**20)


@pytest.fixture
async def service(start: Start, store: PayloadStore) -> Service:
    return await start(payloads=store)


def described(number: int = 1, **changes: Any) -> dict[str, Any]:
    whole = message(number, **changes)
    del whole["content"]
    if "contentType" not in changes:
        del whole["contentType"]
    return whole


async def send(
    service: Service,
    content: Any,
    *,
    about: Any = None,
    kind: str | None = "image/png",
    digest: str | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    about = described() if about is None else about
    own = {"Content-Digest": digest} if digest else {}
    files = [
        ("message", (None, json.dumps(about), "application/json")),
        ("content", ("file", content, kind, own)),
    ]
    return await service.client.post("/api/messages", files=files, headers=headers or {})


def sha(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def left(store: PayloadStore, prefix: str = "*") -> list[Path]:
    return [path for path in folder_of(store).glob(f"{prefix}/**/*") if path.is_file()]


async def bodies(service: Service) -> list[Any]:
    partitions = range(service.transport.partitions)
    return [
        json.loads(record.body)
        for partition in partitions
        for record in await service.transport.read(Topic.MESSAGES, partition)
    ]


async def test_binary_content_is_kept_as_it_is(service: Service, store: PayloadStore) -> None:
    answer = await send(service, PNG)
    assert answer.status_code == 202
    (body,) = await bodies(service)
    assert (body["contentType"], body["v"], body["payloadBytes"]) == ("image/png", 2, len(PNG))
    assert (folder_of(store) / body["payloadKey"]).read_bytes() == PNG
    async with working(service):
        (row,) = await eventually(service.rows)
    assert (row["content"], sha256_in(row["payload_key"])) == ("", hashlib.sha256(PNG).hexdigest())
    assert (await send(service, PNG)).status_code == 200
    assert (await send(service, PNG + b"!")).status_code == 422
    assert (await send(service, PNG, kind="image/gif")).status_code == 422


@pytest.mark.parametrize("field", OPTIONAL)
async def test_each_optional_field_of_a_form_tells_two_bodies_apart(
    service: Service, field: str
) -> None:
    """The fingerprint of a form is computed apart from that of JSON: ``ContentDigest.payload``."""
    first, other = VALUES[field]
    assert (await send(service, PNG, about=described(**{field: first}))).status_code == 202
    assert (await send(service, PNG, about=described(**{field: first}))).status_code == 200
    assert (await send(service, PNG, about=described(**{field: other}))).status_code == 422


@pytest.mark.parametrize("length", [1, 2048, 2049, 3 * 2**20])
async def test_text_is_the_same_message_however_it_comes(
    service: Service, store: PayloadStore, length: int
) -> None:
    text = ("né" * length).encode()[:length].decode(errors="ignore").ljust(length, "x")[:length]
    about = described(contentType="text")
    first = await send(service, text.encode(), about=about, kind=None)
    assert first.status_code == 202
    (body,) = await bodies(service)
    assert body["v"] == (1 if len(text.encode()) <= 2048 else 2)
    if length < 65_536:
        assert (await service.post(about | {"content": text})).json()["idempotentHit"]
    again = await send(service, text.encode(), about=about)
    assert again.json() | {"idempotentHit": False} == first.json()
    assert not left(store, "uploading")


async def test_a_body_larger_than_memory_is_streamed(service: Service, store: PayloadStore) -> None:
    data = os.urandom(12 * 2**20)
    answer = await send(service, data, digest=sha(data))
    assert answer.status_code == 202
    (path,) = left(store)
    assert path.read_bytes() == data
    async with working(service):
        (row,) = await eventually(service.rows)
    assert (row["content"], row["payload_bytes"]) == ("", len(data))


async def test_a_digest_is_held_against_what_came(service: Service, store: PayloadStore) -> None:
    data = os.urandom(3 * 2**20)
    right, wrong = sha(data), sha(b"other")
    for given in ({"digest": wrong}, {"headers": {"Repr-Digest": wrong}}):
        refused = await send(service, data, **given)
        assert (refused.status_code, refused.json()["type"]) == (400, "/problems/digest-mismatch")
    await eventually(lambda: not left(store))
    accepted = await send(service, data, digest=f"md5=:abc:, {right}")
    assert accepted.status_code == 202


_REQUEST = (
    b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
)


async def test_too_large_content_is_refused_before_it_comes(
    service: Service, store: PayloadStore
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(_REQUEST % 10**9)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"INGRESS_MAX_PAYLOAD_BYTES" in answer
    assert (await send(service, b"x" * (20 * 2**20 + 1))).status_code == 413
    await eventually(lambda: not left(store))


async def test_a_client_that_leaves_leaves_nothing(start: Start, tmp_path: Path) -> None:
    metrics = Metrics()
    store = opened(f"file://{tmp_path}/payloads", metrics=metrics)
    service = await start(payloads=store)
    head = (
        "--b\r\nContent-Disposition: form-data; name=message\r\n\r\n"
        f"{json.dumps(described())}\r\n--b\r\nContent-Disposition: form-data; name=content\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(_REQUEST % 9_000_000 + head.encode())
    writer.write(os.urandom(7 * 2**20))
    await writer.drain()
    await eventually(lambda: list(folder_of(store).glob("uploading/**/*")))
    writer.close()
    # A folder forgets an upload that was never finished, and S3 keeps its parts: it is deleted.
    deleted = metrics.of(PayloadMetrics).requests.labels("delete", "ok")
    await eventually(lambda: value_of(deleted))
    assert not left(store, "uploading")
    assert not await bodies(service)
    assert (await send(service, b"y")).status_code == 202


@pytest.mark.parametrize("door", ["protocol"])  # the server of the other one does not answer it
async def test_a_client_that_sends_nothing_after_its_form_is_answered(service: Service) -> None:
    """It closes its sending side, as ``nc -N`` does."""
    parts = (
        "--b\r\nContent-Disposition: form-data; name=message\r\n\r\n"
        f"{json.dumps(described())}\r\n--b\r\nContent-Disposition: form-data; name=content\r\n\r\n"
    )
    form = parts.encode() + os.urandom(2**20) + b"\r\n--b--\r\n"
    for data, answer in ((_REQUEST % len(form) + form, b"HTTP/1.1 202 "), (_REQUEST % 10**6, b"")):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(data)
        writer.write_eof()
        assert (await asyncio.wait_for(reader.read(), 10))[:13] == answer
        writer.close()


async def begun(service: Service, content: bytes, *, key: str = "") -> Connection:
    """Send the beginning of a form, and then nothing more."""
    head = (
        "--b\r\nContent-Disposition: form-data; name=message\r\n\r\n"
        f"{json.dumps(described())}\r\n--b\r\nContent-Disposition: form-data; name=content\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    request = (_REQUEST % 9_000_000)[:-2]
    own = f"X-API-Key: {key}\r\n" if key else ""
    writer.write(request + f"{own}\r\n{head}".encode() + content)
    await writer.drain()
    return reader, writer


async def test_clients_that_send_nothing_more_refuse_nobody(service: Service) -> None:
    bodies_read = service.app.accept.bodies
    idle = [await begun(service, b"x" * 1000) for _ in range(20)]
    await eventually(lambda: bodies_read.held >= 20 * 1000)
    assert (await send(service, PNG)).status_code == 202
    for _, writer in idle:
        writer.close()
    await eventually(lambda: bodies_read.held == 0)


async def test_the_memory_of_all_forms_is_bounded(start: Start, store: PayloadStore) -> None:
    service = await start(payloads=store, ingress_queue_bytes=100_000)
    idle = [await begun(service, b"x" * 49_000) for _ in range(2)]
    await eventually(lambda: service.app.accept.bodies.held > 98_000)
    refused = await send(service, PNG)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    for _, writer in idle:
        writer.close()


async def test_uploads_at_once_are_bounded(service: Service, store: PayloadStore) -> None:
    uploads = service.app.accept.uploads
    assert uploads is not None
    large = b"\xff" * (2**20 + 1)
    idle = [await begun(service, large) for _ in range(16)]
    await eventually(lambda: uploads.streams == 16)
    refused = await send(service, large)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert (await send(service, PNG)).status_code == 202
    for _, writer in idle:
        writer.close()
    await eventually(lambda: uploads.streams == 0)
    assert (await send(service, large, about=described(2))).status_code == 202
    assert uploads.streams == 0


async def test_no_key_takes_all_uploads(start: Start, store: PayloadStore) -> None:
    keys = [f"{n}-key:produce:{hashlib.sha256(f'cf_{n}'.encode()).hexdigest()}" for n in "ab"]
    service = await start(payloads=store, api_keys=",".join(keys))
    uploads = service.app.accept.uploads
    assert uploads is not None
    large = b"\xff" * (2**20 + 1)
    idle = [await begun(service, large, key="cf_a") for _ in range(8)]
    await eventually(lambda: uploads.streams == 8)
    refused = await send(service, large, headers={"X-API-Key": "cf_a"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    other = await send(service, large, about=described(2), headers={"X-API-Key": "cf_b"})
    assert other.status_code == 202
    for _, writer in idle:
        writer.close()
    await eventually(lambda: uploads.streams == 0)


async def test_a_client_may_not_be_silent_for_long(start: Start, store: PayloadStore) -> None:
    """However much it sent before."""
    service = await start(payloads=store, ingress_body_timeout_ms=200)
    reader, writer = await begun(service, b"\xff" * 3 * 2**20)
    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


@pytest.mark.timeout(120)
async def test_a_client_that_is_slow_and_steady_is_heard_to_its_end(
    start: Start, store: PayloadStore
) -> None:
    """The whole may take many times INGRESS_BODY_TIMEOUT_MS: 100 MiB over a slow line.

    Where this machine made the client silent for longer than it wanted to be, the test says
    nothing, and is made again with more time.
    """
    for number, seconds in enumerate((0.3, 1.2, 4.8)):
        service = await start(payloads=store, ingress_body_timeout_ms=int(seconds * 1000))
        status, silent = await post_slowly(service, number, pieces=26, pause=seconds / 3)
        if silent < 2 / 3 * seconds:
            break
    assert status == b"HTTP/1.1 202 ", f"silent for {silent:.2f} s of {seconds} s"


async def post_slowly(
    service: Service, number: int, *, pieces: int, pause: float
) -> tuple[bytes, float]:
    """Post a form in pieces; return the status line's start, and the longest silence in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    about = _HEAD.format("message", json.dumps(described(number))).encode()
    body = [about + b"--b\r\nContent-Disposition: form-data; name=content\r\n\r\n"]
    body += [b"\xff" * 20_000] * (pieces - 1) + [b"\r\n--b--\r\n"]
    writer.write(_REQUEST % sum(map(len, body)))
    answer = asyncio.create_task(reader.readline())
    silent, last = 0.0, time.monotonic()
    for piece in body:
        writer.write(piece)
        await asyncio.wait({answer}, timeout=pause)
        now = time.monotonic()
        silent, last = max(silent, now - last), now
        if answer.done():
            break
    line = await answer
    assert piece is body[-1] or not line.startswith(b"HTTP/1.1 2"), "answered before its end"
    writer.close()
    return line[:13], silent


async def test_a_body_without_an_end_is_refused(start: Start, tmp_path: Path) -> None:
    """What follows the last boundary counts for nothing, but for the size."""
    store = opened(f"file://{tmp_path}/payloads", ingress_max_payload_bytes=10_000)
    service = await start(payloads=store, ingress_max_body_bytes=10_000)

    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    length, chunked = b"Content-Length: %d", b"Transfer-Encoding: chunked"
    writer.write(_REQUEST.replace(length, chunked))
    writer.write(b"7\r\n--b--\r\n\r\n" + b"1000\r\n%b\r\n" % (b"x" * 4096) * 5)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


_HEAD = "--b\r\nContent-Disposition: form-data; name={}\r\n\r\n{}\r\n"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("--b--\r\n", 422, "message"),
        (_HEAD.format("message", json.dumps(described())) + "--b--\r\n", 422, "content"),
        (_HEAD.format("content", "x") + "--b--\r\n", 422, "comes before message"),
        (_HEAD.format("message", "{}") + "--b--\r\n", 422, "conversationId"),
        (_HEAD.format("message", "[]") + "--b--\r\n", 422, "not an object"),
        (_HEAD.format("message", json.dumps(message())) + "--b--\r\n", 422, "in the part message"),
        (_HEAD.format("other", "x") + "--b--\r\n", 422, "not a known part"),
        (_HEAD.format("message", json.dumps(described())) * 2 + "--b--\r\n", 422, "comes twice"),
        (_HEAD.format("message", json.dumps(described())), 400, "last boundary"),
        ("no boundary at all", 400, "not multipart"),
    ],
)
async def test_what_is_no_such_form_is_told(
    service: Service, body: str, status: int, told: str
) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused = await service.client.post("/api/messages", content=body.encode(), headers=headers)
    assert refused.status_code == status
    assert told in refused.text
    assert not await bodies(service)


async def test_a_form_needs_a_boundary_and_no_compression(service: Service) -> None:
    post = service.client.post
    plain = {"Content-Type": "multipart/form-data"}
    assert (await post("/api/messages", content=b"x", headers=plain)).status_code == 400
    coded = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}
    assert (await post("/api/messages", content=b"x", headers=coded)).status_code == 415


async def test_the_document_describes_the_form(service: Service, start: Start) -> None:
    for served, known in ((service, True), (await start(), False)):
        document = (await served.client.get("/openapi.json")).json()
        taken = document["paths"]["/api/messages"]["post"]["requestBody"]["content"]
        assert ("multipart/form-data" in taken) == known


async def test_whoever_sends_content_in_another_way_is_told_of_the_form(
    service: Service, start: Start
) -> None:
    picture, long = {"Content-Type": "image/png"}, {"Content-Type": "application/json"}
    for served, told in ((service, True), (await start(), False)):
        for headers, content, status in ((picture, PNG, 415), (long, b" " * 2**21, 413)):
            refused = await served.client.post("/api/messages", content=content, headers=headers)
            assert refused.status_code == status
            assert ("multipart/form-data" in refused.json()["detail"]) == told


async def test_without_a_store_a_form_is_no_media_type_of_ours(start: Start) -> None:
    assert (await send(await start(), PNG)).status_code == 415
