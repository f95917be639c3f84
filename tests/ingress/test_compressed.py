"""Compressed bodies: taken as what they inflate to, and bounded by it."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ingress.accept.bodies import Bodies
from ingress.schema.problems import OVERLOADED, Problem
from tests.ingress.conftest import JSON, Service, Start, message

URL = "/api/messages"
BATCH = "/api/messages:batch"
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


async def _post(
    service: Service, body: bytes, coding: str = "gzip", path: str = URL, **headers: str
) -> httpx.Response:
    given = {**JSON, "Content-Encoding": coding, **headers}
    return await service.client.post(path, content=body, headers=given)


def _body(number: int = 1, **changes: str) -> bytes:
    return json.dumps(message(number, **changes)).encode()


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_message_is_the_same_message(service: Service, coding: str) -> None:
    plain = (await service.post(message())).json()
    answer = await _post(service, CODINGS[coding](_body()), coding)
    assert answer.status_code == 200
    assert answer.json() == {**plain, "idempotentHit": True}
    assert await service.records() == 1


async def test_a_compressed_batch_is_taken_as_json_and_as_lines(service: Service) -> None:
    array = json.dumps([message(number) for number in range(100)]).encode()
    lines = b"\n".join(_body(number) for number in range(100, 200))
    answer = await _post(service, gzip.compress(array), path=BATCH)
    assert [result["status"] for result in answer.json()] == [202] * 100
    ndjson = {"Content-Type": "application/x-ndjson"}
    answer = await _post(service, gzip.compress(lines), path=BATCH, **ndjson)
    assert [json.loads(line)["status"] for line in answer.text.splitlines()] == [202] * 100
    assert await service.records() == 200


async def test_a_compressed_receipt_is_taken(service: Service) -> None:
    acknowledged = (await service.post(message())).json()
    path = f"{URL}/{acknowledged['messageId']}/receipts"
    body = gzip.compress(b'{"userId": "u", "state": "read"}')
    assert (await _post(service, body, path=path)).status_code == 202


async def test_several_members_are_one_body(service: Service) -> None:
    body = _body()
    members = gzip.compress(body[:10]) + gzip.compress(b"") + gzip.compress(body[10:])
    assert (await _post(service, members)).status_code == 202


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (_body(), "gzip"),
        (b"", "gzip"),
        (gzip.compress(_body())[:-9], "gzip"),
        (gzip.compress(_body())[:-1], "gzip"),
        (gzip.compress(_body())[:-8] + bytes(8), "gzip"),
        (gzip.compress(_body()) + b"more", "gzip"),
        (gzip.compress(_body()) + bytes(4), "gzip"),
        (gzip.compress(_body()) + gzip.compress(_body())[:-1], "gzip"),
        (zlib.compress(_body()), "gzip"),
        (gzip.compress(_body()), "deflate"),
        (zlib.compress(_body()) + b"more", "deflate"),
        (zlib.compress(_body())[:-1], "deflate"),
        (gzip.compress(gzip.compress(_body())), "gzip"),
    ],
    ids=[
        "plain", "nothing", "truncated", "one_byte_short", "wrong_sum", "garbage_behind",
        "zeros_behind", "second_truncated", "zlib_as_gzip", "gzip_as_deflate",
        "garbage_behind_deflate", "deflate_truncated", "twice",
    ],
)  # fmt: skip
async def test_what_is_not_compressed_so_is_400(service: Service, body: bytes, coding: str) -> None:
    for path in (URL, BATCH):
        answer = await _post(service, body, coding, path)
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == "/problems/malformed-body"
    assert await service.records() == 0
    assert (await service.post(message())).status_code == 202


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip;q=1", "\xe9"])
async def test_another_coding_is_415_and_says_which_are_taken(
    service: Service, coding: str
) -> None:
    for path in (URL, BATCH, f"{URL}/00000000-0000-8000-8000-000000000001/receipts"):
        headers = {**JSON, "Content-Encoding": coding.encode("latin-1")}
        answer = await service.client.post(path, content=b"whatever", headers=headers)
        assert answer.status_code == 415
        assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("codings", [("br", "gzip"), ("gzip", "br"), ("gzip", "gzip")])
async def test_several_lines_are_a_list_of_codings_of_which_one_is_taken(
    service: Service, codings: tuple[str, ...]
) -> None:
    headers = [*JSON.items(), *(("Content-Encoding", coding) for coding in codings)]
    for path in (URL, BATCH, f"{URL}/00000000-0000-8000-8000-000000000001/receipts"):
        body = gzip.compress(_body())
        answer = await service.client.post(path, content=body, headers=headers)
        assert answer.status_code == 415
        assert ", ".join(codings) in answer.json()["detail"]
    assert await service.records() == 0


@pytest.mark.parametrize("codings", [("gzip", "identity"), ("identity", "gzip"), ("", "gzip")])
async def test_a_line_that_names_no_coding_changes_nothing(
    service: Service, codings: tuple[str, ...]
) -> None:
    headers = [*JSON.items(), *(("Content-Encoding", coding) for coding in codings)]
    answer = await service.client.post(URL, content=gzip.compress(_body()), headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(bytes(20 * 1024 * 1024)),
        gzip.compress(b"{") + gzip.compress(bytes(17 * 1024 * 1024)),
    ],
    ids=["one", "behind_a_member"],
)
async def test_a_bomb_is_413_at_once_and_delays_nobody(service: Service, body: bytes) -> None:
    """20 MiB in 20 KiB: it is inflated as far as the limit, in steps, and no further."""
    for path, setting in ((URL, "INGRESS_MAX_BODY_BYTES"), (BATCH, "INGRESS_MAX_BATCH_BYTES")):
        bombs = [asyncio.create_task(_post(service, body, path=path)) for _ in range(3)]
        others = [await service.post(message(number)) for number in range(8)]
        assert {other.status_code for other in others} <= {200, 202}
        for answer in await asyncio.gather(*bombs):
            assert answer.status_code == 413
            assert setting in answer.json()["detail"]


async def test_a_body_of_many_empty_members_is_linear(service: Service) -> None:
    """50,000 of them in 1 MiB: each is a stream of its own, and none copies what is behind it."""
    body = gzip.compress(b"") * 50_000
    began = time.process_time()
    answer = await _post(service, body)
    assert answer.status_code == 400
    assert time.process_time() - began < 10  # a second; squared it would be minutes


async def test_the_limit_is_that_of_the_plain_body(start: Start) -> None:
    service = await start(ingress_max_body_bytes=1_000, ingress_max_content_bytes=1_000)
    room = 1_000 - len(_body(content=""))
    assert (await _post(service, gzip.compress(_body(content="x" * room)))).status_code == 202
    over = gzip.compress(_body(2, content="x" * (room + 1)))
    assert (await _post(service, over)).status_code == 413


async def test_a_stalled_body_holds_no_more_than_what_came(start: Start) -> None:
    """Nearly all of a bomb, and then nothing: as long as it stalls, it stands for 16 KiB."""
    service = await start(ingress_queue_bytes=512 * 1024)
    bomb = gzip.compress(bytes(15 * 1024 * 1024))
    head = (
        "POST /api/messages:batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    )
    stalled = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(8)]
    for _, writer in stalled:
        writer.write(head.encode() + bomb[:-1])
        await writer.drain()
    large = gzip.compress(json.dumps([message()]).encode() + b" " * 200 * 1024)
    assert (await _post(service, large, path=BATCH)).status_code == 207
    for _, writer in stalled:
        writer.close()
        await writer.wait_closed()


async def test_bodies_being_inflated_are_bounded_together(start: Start) -> None:
    service = await start(ingress_queue_bytes=1024 * 1024)
    body = gzip.compress(json.dumps([message()]).encode() + b" " * 4 * 1024 * 1024)
    answer = await _post(service, body, path=BATCH)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert (await service.post(message())).status_code == 202


async def test_compressed_bodies_that_wait_for_their_turn_are_bounded_too() -> None:
    """One is inflated at a time; meanwhile the others hold what came of them."""
    allowed = 10 * 2**20
    bodies = Bodies(held_bytes=allowed, seconds=10)
    most = 0

    async def read(body: bytes) -> int:
        async def receive() -> dict[str, Any]:
            nonlocal most
            most = max(most, bodies.held)
            return {"type": "http.request", "body": body, "more_body": False}

        headers = {b"content-encoding": b"gzip"}
        return len(await bodies.read(headers, receive, 16 * 2**20, "LIMIT"))

    large = gzip.compress(bytes(8 * 2**20))
    small = gzip.compress(random.Random(1).randbytes(300_000))
    reads = await asyncio.gather(
        read(large), *(read(small) for _ in range(40)), return_exceptions=True
    )
    refused = [outcome for outcome in reads if isinstance(outcome, Problem)]
    assert {problem.kind for problem in refused} == {OVERLOADED}
    assert any(isinstance(outcome, Problem) for outcome in reads[1:])
    assert reads.count(300_000) + reads.count(8 * 2**20) + len(refused) == len(reads)
    assert most <= allowed
    assert bodies.held == 0
