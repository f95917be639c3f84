"""What the connection does between a client and an ASGI application that breaks its rules."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from ingress.http1.bounds import Bounds
from tests.hostile.http.conftest import answers, listening
from tests.support.eventually import eventually

Serve = Callable[[Any], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_MIB = 2**20


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an application that gets (receive, send); give a connection to it."""
    async with AsyncExitStack() as stack:

        async def make(handle: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                if scope["type"] == "lifespan":
                    for _ in ("startup", "shutdown"):
                        event = await receive()
                        await send({"type": f"{event['type']}.complete"})
                else:
                    await handle(receive, send)

            port = await stack.enter_async_context(listening(app, "asgi", Bounds()))
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024)
            stack.callback(writer.close)
            return reader, writer

        yield make


async def _ask(serve: Serve, handle: Any, request: bytes = GET) -> bytes:
    """Return all that comes until the connection is closed."""
    reader, writer = await serve(handle)
    writer.write(request)
    return await asyncio.wait_for(reader.read(), 10)


def _start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def _body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [_body(b"no head")],
        [_start(200, (b"x", b"a\r\nSet-Cookie: b"))],
        [_start(200, (b"x y", b"a"))],
        # A head waits for the first piece of its body, so that a proxy passes on both together.
        [_start(413, (b"content-length", b"10"))],
        [_start(200, (b"content-length", b"10")), _body(b"half")],
        [_start(200, (b"content-length", b"2")), _body(b"more")],
        [_start(204), _body(b"more")],
    ],
    ids=[
        "nothing",
        "no_head",
        "line_break_in_value",
        "space_in_name",
        "head_alone",
        "too_short",
        "too_long",
        "no_content",
    ],
)
async def test_what_is_no_answer_becomes_500_and_the_connection_ends(
    serve: Serve, sent: list[Any]
) -> None:
    async def handle(receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)

    (answer,) = answers(await _ask(serve, handle, GET + GET))
    assert (answer.status, answer.headers["connection"]) == (500, "close")
    assert answer.json["type"] == "/problems/internal"


@pytest.mark.parametrize(
    "sent",
    [
        [_start(), _body(b"half", more=True)],
        [_start(200, (b"content-length", b"10")), _body(b"half", more=True)],
        [
            _start(200, (b"content-length", b"10")),
            _body(b"half", more=True),
            _body(b"too much"),
        ],
    ],
    ids=["chunks", "length", "too_long"],
)
async def test_an_answer_that_does_not_end_is_cut_off_and_never_looks_whole(
    serve: Serve, sent: list[Any]
) -> None:
    async def handle(receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)

    got = await _ask(serve, handle, GET + GET)
    assert got.count(b"HTTP/1.1 ") == 1
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"0\r\n\r\n" not in body
    assert b"content-length: %d\r\n" % len(body) not in head.lower() + b"\r\n"


async def test_an_answer_of_unknown_length_is_in_chunks_but_not_to_http_1_0(serve: Serve) -> None:
    async def handle(receive: Any, send: Any) -> None:
        await send(_start())
        await send(_body(b"one", more=True))
        await send(_body(b"two"))

    reader, writer = await serve(handle)
    writer.write(GET)
    got = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
    assert got.lower().endswith(
        b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    )
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    got = await asyncio.wait_for(reader.read(), 10)
    assert got.lower().endswith(b"connection: close\r\n\r\nonetwo")


async def test_a_client_that_waits_to_send_is_told_to_only_by_who_reads(serve: Serve) -> None:
    reading: list[bool] = [True, False]

    async def handle(receive: Any, send: Any) -> None:
        body = (await receive())["body"] if reading.pop() else b"unread"
        await send(_start(200, (b"content-length", b"%d" % len(body))))
        await send(_body(body))

    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await serve(handle)
    writer.write(head)
    got = await asyncio.wait_for(reader.readuntil(b"unread"), 10)
    assert got.startswith(b"HTTP/1.1 200 ")
    writer.write(b"body" + head)
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == (
        b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    writer.write(b"that")
    got = await asyncio.wait_for(reader.readuntil(b"that"), 10)
    assert got.startswith(b"HTTP/1.1 200 ")


async def test_a_client_of_http_1_0_is_not_told_to_continue(serve: Serve) -> None:
    async def handle(receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send(_start(200, (b"content-length", b"%d" % len(body))))
        await send(_body(body))

    reader, writer = await serve(handle)
    writer.write(b"POST / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody")
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200 ")


async def test_the_application_learns_that_its_client_is_gone(serve: Serve) -> None:
    events: list[str] = []

    async def handle(receive: Any, send: Any) -> None:
        events.append((await receive())["type"])
        events.append((await receive())["type"])
        await send(_start())  # to a client that is gone, which is no error
        await send(_body())
        events.append("sent")

    _, writer = await serve(handle)
    writer.write(GET)
    await eventually(lambda: events == ["http.request"])
    raw = writer.get_extra_info("socket")  # reset: a FIN may be of one that still reads
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await eventually(lambda: events == ["http.request", "http.disconnect", "sent"])


async def test_the_application_waits_for_a_client_that_does_not_read(serve: Serve) -> None:
    sent = 0

    async def handle(receive: Any, send: Any) -> None:
        nonlocal sent
        await send(_start())
        for _ in range(100):
            await send(_body(b"x" * _MIB, more=True))
            sent += 1
        await send(_body())

    reader, writer = await serve(handle)
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    before = -1
    while before != sent:  # until nothing moves
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 50
    got = 0
    while got < 100 * _MIB:
        got += len(await asyncio.wait_for(reader.read(_MIB), 10))
    await eventually(lambda: sent == 100)


async def test_a_client_waits_for_an_application_that_does_not_read(serve: Serve) -> None:
    read = asyncio.Event()

    async def handle(receive: Any, send: Any) -> None:
        await read.wait()
        length, more = 0, True
        while more:
            event = await receive()
            length, more = length + len(event["body"]), event["more_body"]
        await send(_start(200, (b"content-length", b"8")))
        await send(_body(b"%8d" % length))

    reader, writer = await serve(handle)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (50 * _MIB))
    writer.write(b"x" * (50 * _MIB))
    before = -1
    while before != writer.transport.get_write_buffer_size():
        before = writer.transport.get_write_buffer_size()
        await asyncio.sleep(0.1)
    assert before > 25 * _MIB  # of 50: the rest is in the kernel's buffers
    read.set()
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200 ")
    assert int(await reader.readexactly(8)) == 50 * _MIB
