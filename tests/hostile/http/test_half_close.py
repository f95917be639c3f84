"""Clients that close their sending side after their requests (``nc -N``).

A client that closes its whole connection sends the same FIN, so some of these are for it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from ingress.http1 import lingering_close
from ingress.http1.bounds import Bounds
from ingress.http1.listener import Listener
from tests.hostile.http.conftest import DOORS, GET, answers, body, ingress_app, listening, post
from tests.support.eventually import eventually
from tests.support.metric_values import value_of

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handle = Callable[[Any, Any], Awaitable[None]]
_MIB = 2**20
_SOON = 10.0  # seconds without any progress, after which something waits for ever


class _Site:
    """A server, and the connections that it has."""

    def __init__(self, port: int, listener: Listener) -> None:
        self.port = port
        self.connections = listener.connections
        self.ended = listener.connections.ended


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(params=DOORS)
async def site(request: pytest.FixtureRequest, stack: AsyncExitStack) -> _Site:
    app = await stack.enter_async_context(ingress_app())
    return _Site(
        *await stack.enter_async_context(listening(app, request.param, Bounds(), whole=True))
    )


@pytest.fixture
def serve(stack: AsyncExitStack) -> Any:
    """Serve an application that gets (receive, send)."""

    async def make(handle: Handle, bounds: Bounds | None = None) -> _Site:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                for _ in ("startup", "shutdown"):
                    event = await receive()
                    await send({"type": f"{event['type']}.complete"})
            else:
                await handle(receive, send)

        bounds = Bounds() if bounds is None else bounds
        return _Site(*await stack.enter_async_context(listening(app, "asgi", bounds, whole=True)))

    return make


async def _answer(send: Any, data: bytes = b"done") -> None:
    headers = [(b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})


async def _half_closed(port: int, data: bytes) -> Connection:
    """Send ``data`` and close the sending side, as ``nc -N`` does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(data)
    writer.write_eof()
    return reader, writer


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes the connection."""
    got = b""
    while True:
        try:
            piece = await asyncio.wait_for(reader.read(_MIB), _SOON)
        except TimeoutError:
            pytest.fail(f"neither bytes nor the end came for {_SOON:g} s, after {got[-200:]!r}")
        if not piece:
            return got
        got += piece


async def _read(connection: Connection) -> list[Any]:
    reader, writer = connection
    try:
        return answers(await _rest(reader))
    finally:
        writer.close()


async def _has(here: _Site, count: int) -> None:
    """Wait until the server has so many connections."""

    def there() -> bool:
        found = len(here.connections)
        assert found == count, f"the server has {found} connections, not {count}"
        return True

    await eventually(there)


async def _hears(events: list[str], *expected: str) -> None:
    """Wait until the application was told these events."""

    def heard() -> bool:
        assert events == list(expected), f"the application was told {events}, not {expected}"
        return True

    await eventually(heard)


async def _all(port: int, data: bytes) -> list[Any]:
    """Return the answers to a client that closes its sending side after ``data``."""
    return await _read(await _half_closed(port, data))


def _chunked(content: bytes) -> bytes:
    head = post("Transfer-Encoding: chunked", content=b"").replace(b"Content-Length: 0\r\n", b"")
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


async def test_a_request_is_answered(site: _Site) -> None:
    for request in post(), _chunked(body(2)):
        assert [each.status for each in await _all(site.port, request)] == [202]
    batch = post(content=b"[" + body(3) + b"," + body(4) + b"]", path="/api/messages:batch")
    (found,) = await _all(site.port, batch)
    assert ["messageId" in each for each in found.json] == [True, True]
    await _has(site, 0)


async def test_requests_before_it_are_answered_in_order(site: _Site) -> None:
    batch = post(content=b"[" + body(3) + b"]", path="/api/messages:batch")
    found = await _all(site.port, post() + post(content=body(2)))
    assert [each.status for each in found] == [202, 202]
    found = await _all(site.port, batch + GET + post(content=body(4)) + GET)
    assert [each.status for each in found] == [207, 200, 202, 200]
    sent = b"".join(post(content=body(number)) + GET for number in range(100, 400))
    assert [each.status for each in await _all(site.port, sent)] == [202, 200] * 300
    await _has(site, 0)


@pytest.mark.parametrize(
    "half",
    [
        b"",
        GET[:10],
        GET[:-2],
        post()[:-10],
        _chunked(body())[:-3],
        post(content=b"[" + body(), path="/api/messages:batch")[:-20],
        post(content=b"x" * 100_000)[:50_000],
    ],
    ids=["nothing", "line", "head", "body", "chunks", "batch", "large"],
)
async def test_half_a_request_is_dropped(site: _Site, half: bytes) -> None:
    assert await _all(site.port, half) == []
    await _has(site, 0)
    assert [each.status for each in await _all(site.port, post() + half)] == [202]


async def test_bytes_that_are_no_request_are_refused_after_the_answer(site: _Site) -> None:
    found = await _all(site.port, post() + b"\x00\x01\r\n\r\n")
    assert [each.status for each in found] == [202, 400]


async def test_many_that_leave_have_their_places_until_they_are_answered(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A client that might send more is waited for: none of these is.
    monkeypatch.setattr(lingering_close, "_SECONDS", 3600.0)
    waiting, go_on = 0, asyncio.Event()

    async def handle(receive: Any, send: Any) -> None:
        nonlocal waiting
        await receive()
        waiting += 1
        await go_on.wait()
        await _answer(send)

    here = await serve(handle)
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(GET)
        writer.close()
    connection = await _half_closed(here.port, GET)
    await eventually(lambda: waiting == 101)
    assert len(here.connections) == 101
    go_on.set()
    (found,) = await _read(connection)
    assert (found.status, found.headers["connection"]) == (200, "close")
    await _has(here, 0)


async def test_one_that_resets_then_is_gone_before_its_answer(serve: Any) -> None:
    events: list[str] = []

    async def handle(receive: Any, send: Any) -> None:
        events.append((await receive())["type"])
        events.append((await receive())["type"])

    here = await serve(handle)
    _, writer = await _half_closed(here.port, GET)
    await _hears(events, "http.request")
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await _hears(events, "http.request", "http.disconnect")
    await _has(here, 0)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not_begun"])
async def test_a_stream_ends_with_it(serve: Any, begun: bool) -> None:
    events: list[str] = []
    go_on = asyncio.Event()

    async def handle(receive: Any, send: Any) -> None:
        events.append((await receive())["type"])
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        events.append("stream")
        events.append((await receive())["type"])

    here = await serve(handle)
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(GET)
    if begun:
        go_on.set()
        await _hears(events, "http.request", "stream")
    writer.write_eof()
    await eventually(lambda: events[:1] == ["http.request"])
    go_on.set()
    await _hears(events, "http.request", "stream", "http.disconnect")
    assert (await _rest(reader)).startswith(b"HTTP/1.1 200 ")
    await _has(here, 0)
    writer.close()


async def test_one_that_does_not_read_is_ended_as_others_are(serve: Any) -> None:
    async def handle(receive: Any, send: Any) -> None:
        await receive()
        await _answer(send, bytes(50 * _MIB))

    here = await serve(handle, Bounds(write_seconds=0.5))
    _, writer = await _half_closed(here.port, GET)
    await _has(here, 1)
    await _has(here, 0)
    assert value_of(here.ended.labels("unread")) == 1
    writer.close()


async def test_a_stop_waits_for_its_answer(serve: Any, stack: AsyncExitStack) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def handle(receive: Any, send: Any) -> None:
        await receive()
        waiting.set()
        await go_on.wait()
        await _answer(send)

    here = await serve(handle)
    connection = await _half_closed(here.port, GET)
    await asyncio.wait_for(waiting.wait(), _SOON)
    asyncio.get_running_loop().call_later(0.2, go_on.set)
    await stack.aclose()
    assert [each.status for each in await _read(connection)] == [200]
    assert len(here.connections) == 0


def test_it_is_the_same_on_the_loop_of_the_service() -> None:
    async def ask() -> None:
        async with (
            ingress_app(ingress_write_timeout_ms=500) as app,
            listening(app, "fast", Bounds(), whole=True) as (port, listener),
        ):
            assert [each.status for each in await _all(port, post())] == [202]
            sent = post(content=body(2)) + GET + post(content=body(3)) + GET[:-2]
            assert [each.status for each in await _all(port, sent)] == [202, 200, 202]
            assert await _all(port, post()[:-10]) == []
            _, deaf = await _half_closed(port, GET.replace(b"healthz", b"openapi.json") * 200)
            await eventually(lambda: value_of(listener.connections.ended.labels("unread")))
            await eventually(lambda: len(listener.connections) == 0)
            deaf.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
