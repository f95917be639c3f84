"""Answers that clients don't read hold a bounded part of the process's memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from ingress.http1.bounds import Bounds
from ingress.http1.connections import Connections
from tests.hostile.http.conftest import answers, listening
from tests.support.eventually import eventually
from tests.support.metric_values import value_of

_MIB = 2**20
_BUDGET = 16 * _MIB
_SOON = 10.0


class _Site:
    """A port whose answers have as many bytes as the path names."""

    def __init__(self, port: int, connections: Connections, stack: AsyncExitStack) -> None:
        self.port = port
        self.connections = connections
        self._stack = stack

    @property
    def held(self) -> list[int]:
        """The bytes that each connection holds, the most first."""
        found = [connection.held for connection in self.connections]
        return sorted((held for held in found if held), reverse=True)

    @property
    def ended(self) -> float:
        """The number of connections that were ended since an answer was not read."""
        return value_of(self.connections.ended.labels("unread"))

    async def ask(self, size: int) -> socket.socket:
        """Ask for so many bytes on a new connection, and read none of them."""
        connection = socket.socket()
        self._stack.callback(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.port))
        await loop.sock_sendall(connection, b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        return connection

    async def read(self, size: int) -> int:
        """Ask for so many bytes, and return how many came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._stack.callback(writer.close)
        writer.write(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
        (answer,) = answers(await asyncio.wait_for(reader.read(), _SOON))
        return len(answer.body)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for _ in ("startup", "shutdown"):
            await send({"type": f"{(await receive())['type']}.complete"})
        return
    body = bytes(int(scope["path"][1:]))
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def _with_site(stack: AsyncExitStack) -> _Site:
    bounds = Bounds(held_bytes=_BUDGET, write_seconds=60.0)
    port, listener = await stack.enter_async_context(listening(_app, "asgi", bounds, whole=True))
    return _Site(port, listener.connections, stack)


@pytest.fixture
async def site() -> AsyncIterator[_Site]:
    async with AsyncExitStack() as stack:
        yield await _with_site(stack)


async def _many_that_read_nothing(site: _Site) -> None:
    for number in range(1, 13):
        await site.ask(4 * _MIB)
        await eventually(lambda seen=number: len(site.held) + site.ended == seen)
        assert sum(site.held) <= _BUDGET
    assert (len(site.held), site.ended) == (3, 9)
    assert await site.read(8 * _MIB) == 8 * _MIB


async def test_all_together_hold_no_more_than_the_budget(site: _Site) -> None:
    await _many_that_read_nothing(site)


def test_it_is_the_same_on_the_loop_of_the_service() -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            await _many_that_read_nothing(await _with_site(stack))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_the_one_that_holds_most_is_ended_first(site: _Site) -> None:
    now, times = asyncio.get_running_loop().time, []
    for number, size in enumerate((3, 12), 1):
        await site.ask(size * _MIB)
        await eventually(lambda seen=number: len(site.held) == seen)
        times.append(now())
    assert [held // _MIB for held in site.held] == [12, 3]
    # The largest has waited for at least half as long as the oldest.
    await eventually(lambda: now() - times[1] > times[1] - times[0])
    await site.ask(3 * _MIB)
    await eventually(lambda: site.ended == 1)
    assert [held // _MIB for held in site.held] == [3, 3]


async def test_an_answer_that_was_just_written_outlives_those_that_wait(site: _Site) -> None:
    """A client that reads its answer must not lose it because others read nothing."""
    for _ in range(5):
        await site.ask(3 * _MIB)
    await eventually(lambda: len(site.held) == 5)
    await site.ask(8 * _MIB)
    await eventually(lambda: site.ended == 3)
    assert [held // _MIB for held in site.held] == [8, 3, 3]


async def test_a_single_answer_may_be_larger_than_the_budget(site: _Site) -> None:
    assert await site.read(2 * _BUDGET) == 2 * _BUDGET
    await site.ask(2 * _BUDGET)
    await eventually(lambda: site.held)
    assert site.ended == 0


async def test_what_is_read_is_held_no_more(site: _Site) -> None:
    connection = await site.ask(8 * _MIB)
    await eventually(lambda: site.held)
    assert 8 * _MIB <= site.held[0] < 9 * _MIB
    loop, come = asyncio.get_running_loop(), 0
    while come < 8 * _MIB:
        come += len(await asyncio.wait_for(loop.sock_recv(connection, _MIB), _SOON))
    await eventually(lambda: not site.held)


async def test_a_connection_that_closes_after_its_answer_is_counted_until_then(
    site: _Site,
) -> None:
    loop = asyncio.get_running_loop()
    connection = await site.ask(8 * _MIB)
    await loop.sock_sendall(connection, b"GET /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)
    await eventually(lambda: site.held)
    connection.close()
    await eventually(lambda: len(site.connections) == 0)
    assert site.held == []


async def test_an_application_is_asked_for_a_piece_when_the_one_before_is_read() -> None:
    """Else it holds one piece, and the connection another."""
    writable: list[bool] = []
    piece = bytes(64 * 1024)

    async with AsyncExitStack() as stack:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await _app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                writable.append(not [one for one in listener.connections if one.writer.paused])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        bounds = Bounds(write_seconds=60.0)
        port, listener = await stack.enter_async_context(listening(app, "asgi", bounds, whole=True))
        site = _Site(port, listener.connections, stack)
        connection = await site.ask(0)
        await eventually(lambda: site.held)
        assert site.held[0] < len(piece) + 1024
        assert all(writable)
        connection.close()
