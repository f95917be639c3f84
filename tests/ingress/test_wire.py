"""What only a raw socket can do: slow, broken, chunked and vanishing clients."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.ingress.conftest import Service, message
from tests.ingress.gated_log import GatedLog
from tests.support.eventually import eventually

BODY = json.dumps(message()).encode()


def _head(length: int | None = None, *more: str, path: str = "/api/messages") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        framing,
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class _Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        lines = head.decode().lower().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        body = await asyncio.wait_for(self.reader.readexactly(length), 10)
        return int(lines[0].split()[1]), json.loads(body)


@pytest.fixture
async def connect():
    open_ones = []

    async def make(service: Service) -> _Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        open_ones.append(writer)
        return _Wire(reader, writer)

    yield make
    for writer in open_ones:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("size", [50_000, 400_000, 2_000_000])
async def test_a_connection_goes_on_after_an_answer_that_did_not_wait_for_the_body(
    service: Service, connect, size: int
) -> None:
    wire = await connect(service)
    head = _head(size, path="/api/messages:batch").replace(b"localhost", b"evil.example")
    wire.writer.write(head + bytes(size) + _head(len(BODY)) + BODY)
    assert (await wire.answer())[0] == 421
    assert (await wire.answer())[0] == 202


async def test_a_body_in_pieces_is_put_together(service: Service, connect) -> None:
    wire = await connect(service)
    wire.writer.write(_head(len(BODY)))
    for at in range(0, len(BODY), 40):
        await wire.writer.drain()
        wire.writer.write(BODY[at : at + 40])
    assert (await wire.answer())[0] == 202
    wire.writer.write(_head() + _chunk(BODY[:50]))
    await wire.writer.drain()
    wire.writer.write(_chunk(BODY[50:]) + b"0\r\n\r\n")
    assert (await wire.answer())[0] == 200


async def test_two_requests_in_one_packet_are_answered_in_order(service: Service, connect) -> None:
    wire = await connect(service)
    other = json.dumps(message(2)).encode()
    wire.writer.write(_head(len(BODY)) + BODY + _head(len(other)) + other)
    first, second = await wire.answer(), await wire.answer()
    assert (first[0], second[0]) == (202, 202)
    assert first[1]["messageId"] == (await service.post(message())).json()["messageId"]


async def test_a_head_that_came_before_may_come_again_in_any_way(service: Service, connect) -> None:
    wire = await connect(service)
    bodies = [json.dumps(message(number)).encode() for number in range(10, 18)]
    head = _head(len(bodies[0]))
    for body in bodies[:3]:
        wire.writer.write(head + body)
        assert (await wire.answer())[0] == 202
    wire.writer.write(head)  # in two pieces
    await wire.writer.drain()
    wire.writer.write(bodies[3])
    assert (await wire.answer())[0] == 202
    wire.writer.write(head + bodies[4] + head + bodies[5])
    assert [(await wire.answer())[0] for _ in range(2)] == [202, 202]
    wire.writer.write(_head(len(bodies[6]), "Connection: close") + bodies[6])
    assert (await wire.answer())[0] == 202
    assert await wire.reader.read() == b""
    other = await connect(service)
    other.writer.write(head + b"{" * len(bodies[7]))
    assert (await other.answer())[0] == 400
    other.writer.write(head + bodies[2])
    status, repeated = await other.answer()
    assert (status, repeated["idempotentHit"]) == (200, True)


@pytest.mark.parametrize("path", ["/api/messages", "/api/messages:batch"])
async def test_a_length_over_the_limit_is_413_before_the_body_comes(
    start, connect, path: str
) -> None:
    service = await start(ingress_max_body_bytes=1000, ingress_max_batch_bytes=1000)
    wire = await connect(service)
    wire.writer.write(_head(1001, path=path))
    status, problem = await wire.answer()
    assert (status, problem["type"]) == (413, "/problems/too-large")
    assert "1000" in problem["detail"]
    assert await asyncio.wait_for(wire.reader.read(), 5) == b""  # closed: the rest is not wanted


@pytest.mark.parametrize(
    "path",
    [
        "/api/messages",
        "/api/messages:batch",
        "/api/messages/00000000-0000-8000-8000-000000000001/receipts",
    ],
)
async def test_chunks_over_the_limit_are_413(start, connect, path: str) -> None:
    service = await start(ingress_max_body_bytes=1000, ingress_max_batch_bytes=1000)
    wire = await connect(service)
    wire.writer.write(_head(path=path) + _chunk(b" " * 600))
    await wire.writer.drain()
    await asyncio.sleep(0)
    wire.writer.write(_chunk(b" " * 600))
    status, problem = await wire.answer()
    assert (status, problem["type"]) == (413, "/problems/too-large")
    assert "1000" in problem["detail"] or "large" in problem["detail"].lower()


async def test_a_body_that_stops_coming_is_408(start, connect) -> None:
    service = await start(ingress_body_timeout_ms=100)
    wire = await connect(service)
    wire.writer.write(_head(len(BODY)) + BODY[:50])
    status, problem = await wire.answer()
    assert (status, problem["type"]) == (408, "/problems/request-timeout")
    assert await service.records() == 0


async def test_a_client_that_goes_away_in_its_body_leaves_nothing(
    service: Service, connect, caplog
) -> None:
    for head in (_head(len(BODY)) + BODY[:50], _head() + _chunk(BODY[:50])):
        wire = await connect(service)
        wire.writer.write(head)
        await wire.writer.drain()
        wire.writer.transport.abort()
    bodies = service.app.accept.bodies
    await eventually(lambda: bodies.held == 0)
    assert (await service.post(message(2))).status_code == 202
    assert await service.records() == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_client_that_goes_away_while_it_waits_loses_nothing(
    gated: GatedLog, start, connect
) -> None:
    """Its message was handed in: the retry it will make has to find it."""
    service = await start(transport=gated)
    gated.gate.clear()
    wire = await connect(service)
    wire.writer.write(_head(len(BODY)) + BODY)
    await eventually(lambda: gated.waiting == 1)
    wire.writer.transport.abort()
    gated.gate.set()
    await eventually(lambda: gated.published)
    retry = await service.post(message())
    assert (retry.status_code, retry.json()["idempotentHit"]) == (200, True)


async def test_many_large_bodies_at_once_are_bounded(start, connect) -> None:
    service = await start(ingress_queue_bytes=30_000)
    wires = [await connect(service) for _ in range(4)]
    for wire in wires[:3]:
        wire.writer.write(_head() + _chunk(b" " * 9_000))
        await wire.writer.drain()
        wire.writer.write(_chunk(b" " * 500))
    bodies = service.app.accept.bodies
    await eventually(lambda: bodies.held == 28_500)
    wires[3].writer.write(_head() + _chunk(b" " * 1_000))
    await wires[3].writer.drain()
    await eventually(lambda: bodies.held == 29_500)
    wires[3].writer.write(_chunk(b" " * 4_000))
    status, problem = await wires[3].answer()
    assert (status, problem["type"]) == (503, "/problems/overloaded")
    await eventually(lambda: bodies.held == 28_500)
