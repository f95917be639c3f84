"""How large, how slow and how many: each past its bound gets its own error, and is gone."""

# ruff: noqa: T201 - figures, shown with -s and where a test fails

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from ingress.http1.bounds import Bounds
from ingress.http1.listener import Listener
from ingress.http1.parser import END, RequestParser
from ingress.http1.request_head import RequestHead
from ingress.schema.problems import Problem
from ingress.settings import IngressSettings
from tests.hostile.http.conftest import (
    DOORS,
    GET,
    answers,
    body,
    exchange,
    ingress,
    ingress_app,
    listening,
    post,
)
from tests.support.eventually import eventually
from transport.errors import ConfigurationError

_RECEIPTS = "/api/messages/00000000-0000-8000-8000-000000000001/receipts"


class _Site:
    """An ingress with limits of its own, and connections to it."""

    def __init__(self, port: int, listener: Listener, stack: AsyncExitStack) -> None:
        self.port = port
        self.connections = listener.connections
        self._stack = stack

    def ended(self, reason: str) -> float:
        """Return the number of connections that the service ended for ``reason``."""
        (metric,) = self.connections.ended.collect()
        counts = {s.labels["reason"]: s.value for s in metric.samples if s.name.endswith("_total")}
        return counts.get(reason, 0.0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._stack.callback(writer.close)
        return reader, writer


@pytest.fixture(params=DOORS)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> _Site:
            app = await stack.enter_async_context(ingress_app(**settings))
            bounds = Bounds.of(IngressSettings(**settings))
            port, listener = await stack.enter_async_context(
                listening(app, request.param, bounds, whole=True)
            )
            return _Site(port, listener, stack)

        yield make


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes that come until the connection ends, in whatever way."""
    got = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65536), 10):
            got += piece
    except ConnectionError:
        pass
    return got


# Size.


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"X: " + b"a" * 70_000 + b"\r\n", 431),
        (b"X: a\r\n" * 20_000, 431),
        (b"X: a\r\n" * 200, 431),
    ],
    ids=["one", "many", "too_many_but_small"],
)
async def test_a_head_past_its_bounds_is_431(
    port: int, split: Any, head: bytes, status: int
) -> None:
    for pieces in split(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + GET)[:2]:
        found, closed = await exchange(port, pieces)
        assert ([answer.status for answer in found], closed) == ([status], True)


async def test_a_target_past_its_bound_is_414(port: int, split: Any) -> None:
    for length in (9_000, 60_000, 200_000):
        target = b"GET /healthz?" + b"a" * length
        for pieces in split(target + b" HTTP/1.1\r\nHost: x\r\n\r\n" + GET)[:2]:
            found, closed = await exchange(port, pieces)
            assert ([answer.status for answer in found], closed) in (([414], True), ([431], True))


async def test_what_is_within_the_bounds_is_served(port: int, split: Any) -> None:
    head = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 480) for number in range(120))
    assert len(head) > 58_000
    for pieces in split(
        b"GET /healthz?%b HTTP/1.1\r\nHost: x\r\n" % (b"a" * 6000) + head + b"\r\n"
    ):
        found, closed = await exchange(port, pieces)
        assert ([answer.status for answer in found], closed) == ([200], False)


async def test_a_head_is_never_held_beyond_its_bound() -> None:
    parser = RequestParser(Bounds())
    with pytest.raises(Problem):
        for _ in range(1000):
            parser.receive(b"X" * 1024 if parser.buffered else b"GET / HTTP/1.1\r\nX: ")
            assert parser.next() is None
    assert parser.buffered <= 65 * 1024


def test_a_head_in_single_bytes_costs_no_more_than_its_length() -> None:
    """Bytes are looked at once: four times as many take some four times as long, and not 16."""

    def seconds(size: int) -> float:
        parser = RequestParser(Bounds())
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"a" * 995 + b"\r\n") * (size // 1000)
        begun = time.process_time()
        for number in range(len(head)):
            parser.receive(head[number : number + 1])
            assert parser.next() is None
        return time.process_time() - begun

    small, large = min(seconds(15_000) for _ in range(3)), min(seconds(60_000) for _ in range(3))
    print(f"a head in single bytes: 15 kB {small * 1000:.0f} ms, 60 kB {large * 1000:.0f} ms")
    assert large < 8 * small


def test_a_body_in_tiny_chunks_is_taken_in_slices() -> None:
    parser = RequestParser(Bounds())
    parser.receive(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.receive(b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n")
    longest, events = 0.0, 0
    while True:
        begun = time.process_time()
        event = parser.next()
        longest = max(longest, time.process_time() - begun)
        if event is END:
            break
        events += not isinstance(event, RequestHead)
    print(f"256 KiB of 40,000 chunks: {events} slices, the longest {longest * 1000:.2f} ms")
    assert events >= 80


# Time.


async def test_a_silent_connection_is_closed_and_half_a_head_is_408(site: Any) -> None:
    here = await site(ingress_head_timeout_ms=300)
    silent, _ = await here.connect()
    half, writer = await here.connect()
    writer.write(GET[:-2])
    slow, trickle = await here.connect()

    async def go_on() -> None:
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 200:
            trickle.write(bytes([byte]))
            await asyncio.sleep(0.05)

    going_on = asyncio.create_task(go_on())
    assert await _all(silent) == b""
    assert [answer.status for answer in answers(await _all(half))] == [408]
    assert [answer.status for answer in answers(await _all(slow))] == [408]
    going_on.cancel()
    assert (here.ended("silent"), here.ended("request-timeout")) == (1, 2)


async def test_a_request_that_has_come_is_served_though_its_connection_was_idle_too_long(
    site: Any,
) -> None:
    """The loop was busy elsewhere: it is late, and not the client."""
    here = await site(ingress_idle_timeout_ms=60_000)
    reader, writer = await here.connect()
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    raw = writer.get_extra_info("socket")
    (mine,) = here.connections
    raw_send = socket.socket(fileno=os.dup(raw.fileno()))
    sweep = asyncio.get_running_loop().time() + 61
    raw_send.send(post("Connection: close"))
    mine.check(sweep)
    raw_send.close()
    assert b" 202 " in await _all(reader)


async def test_an_idle_connection_is_closed_after_its_time(site: Any) -> None:
    here = await site(ingress_idle_timeout_ms=1_000)
    reader, writer = await here.connect()
    writer.write(GET)
    assert [answer.status for answer in answers(await _all(reader))] == [200]


async def test_an_empty_line_does_not_keep_a_connection_open(site: Any) -> None:
    here = await site(ingress_head_timeout_ms=300)
    reader, writer = await here.connect()
    writer.write(b"\r\n")
    assert [answer.status for answer in answers(await _all(reader))] == [408]


@pytest.mark.parametrize("path", ["/api/messages", _RECEIPTS])
async def test_a_body_that_trickles_is_ended(site: Any, path: str) -> None:
    here = await site(ingress_body_timeout_ms=300)
    reader, writer = await here.connect()
    writer.write(post(content=b"x" * 1000, path=path)[:-1000])

    async def go_on() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.05)

    going_on = asyncio.create_task(go_on())
    found = answers(await _all(reader))
    assert [answer.status for answer in found] == [408]
    going_on.cancel()
    writer.close()
    await eventually(lambda: len(here.connections) == 0)


# Readers.


async def test_past_the_bound_of_all_bodies_a_large_one_is_refused_and_no_small_one() -> None:
    held = 64 * 1024
    first, large, small = (post(content=b" " * 2 * held)[:-held], post(content=b" " * held), post())
    async with ingress("fast", ingress_queue_bytes=held) as port, AsyncExitStack() as stack:

        async def begin(data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            writer.write(data)
            await exchange(port, [GET])  # what came before this is read
            return reader, writer

        await begin(first)
        refused, _ = await begin(large[:-1])
        reader, writer = await begin(small[:-1])
        writer.write(small[-1:])
        assert (await refused.readline()).startswith(b"HTTP/1.1 503 ")
        assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")


async def test_a_client_that_reads_nothing_is_not_served_for_ever(site: Any) -> None:
    here = await site(ingress_write_timeout_ms=500)
    reader, writer = await here.connect()
    writer.transport.pause_reading()
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request * 2000)
    await eventually(lambda: len(here.connections) == 0)
    writer.transport.resume_reading()
    got = await _all(reader)
    assert 0 < got.count(b"HTTP/1.1 200 OK") < 200


async def test_a_client_that_posts_and_reads_nothing_is_not_served_for_ever(site: Any) -> None:
    here = await site(ingress_write_timeout_ms=500)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", here.port))

    async def flood() -> None:
        while True:
            await loop.sock_sendall(raw, post() * 100)

    flooding = asyncio.create_task(flood())
    await eventually(flooding.done)
    assert isinstance(flooding.exception(), ConnectionError)
    raw.close()
    await eventually(lambda: len(here.connections) == 0)


async def test_a_slow_reader_of_a_large_answer_gets_all_of_it(site: Any) -> None:
    here = await site(ingress_write_timeout_ms=300)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", here.port))
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
    await loop.sock_sendall(raw, (request + b"\r\n") * 19 + request + b"Connection: close\r\n\r\n")
    got = b""
    begun = time.monotonic()
    while piece := await loop.sock_recv(raw, 65536):
        got += piece
        await asyncio.sleep(0.005)
    raw.close()
    assert time.monotonic() - begun > 0.3
    assert [answer.status for answer in answers(got)] == [200] * 20


# Number.


async def test_past_the_cap_health_is_answered_and_all_else_is_503(site: Any) -> None:
    here = await site(ingress_max_connections=3, ingress_health_connections=2)
    busy = [await here.connect() for _ in range(3)]
    for _, writer in busy:
        writer.write(post()[:-1])  # with half a head it may be closed for others after a second
    await eventually(lambda: len(here.connections) == 3)
    for request, status in ((post(), 503), (GET, 200), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 503)):
        reader, writer = await here.connect()
        writer.write(request)
        (found,) = answers(await _all(reader))
        assert found.status == status
        assert found.headers["connection"] == "close"
        if status == 503:
            assert found.headers["retry-after"] == "1"
            assert found.json["type"] == "/problems/too-many-connections"
    assert here.ended("too-many-connections") == 2


async def test_past_the_cap_what_is_idle_is_closed_first(site: Any) -> None:
    here = await site(ingress_max_connections=3, ingress_health_connections=2)
    silent = [await here.connect() for _ in range(3)]
    await asyncio.sleep(1.1)  # what is idle for less may have a request on its way
    reader, writer = await here.connect()
    writer.write(post("Connection: close"))
    (found,) = answers(await _all(reader))
    assert found.status // 100 == 2
    assert await _all(silent[0][0]) == b""


async def test_past_the_cap_one_whose_request_has_come_is_not_idle(site: Any) -> None:
    """It is about to be served: closed now, it would lose the request."""
    here = await site()
    reader, writer = await here.connect()
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    (mine,) = here.connections
    assert mine.idle_since() is not None
    raw_send = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    raw_send.send(post("Connection: close"))  # the loop, which would read it, has no turn
    assert mine.idle_since() is None
    raw_send.close()
    assert b" 202 " in await _all(reader)


async def test_past_the_cap_an_address_with_more_connections_ends_no_others(site: Any) -> None:
    here = await site(ingress_max_connections=3, ingress_health_connections=2)
    others, writer = await asyncio.open_connection(
        "127.0.0.1", here.port, local_addr=("127.0.0.2", 0)
    )
    for _ in range(2):
        _, mine = await here.connect()
        mine.write(post()[:-1])  # busy
    await asyncio.sleep(1.1)  # what is idle for less may have a request on its way
    reader, _ = await here.connect()
    writer.write(post("Connection: close"))
    assert b" 202 " in await _all(others)
    writer.close()
    assert here.ended("idle") == 0
    assert not reader.at_eof()


async def test_those_that_may_ask_for_health_only_do_not_keep_it_from_others(site: Any) -> None:
    here = await site(ingress_max_connections=2, ingress_health_connections=2)
    for _ in range(10):
        _, writer = await here.connect()
        writer.write(GET[:-2])
        await writer.drain()
    reader, writer = await here.connect()
    writer.write(GET)
    assert [answer.status for answer in answers(await _all(reader))] == [200]


async def test_every_way_to_end_gives_the_place_back(site: Any) -> None:
    here = await site(ingress_head_timeout_ms=60_000)
    halves = [GET[:10], post()[:-10], post(content=b"x" * 100_000)[:50_000], post() * 3, b"", GET]
    for data in halves:
        for ending in ("close", "abort", "half"):
            _, writer = await here.connect()
            writer.write(data)
            await writer.drain()
            if ending == "half":
                writer.write_eof()
            elif ending == "abort":
                raw = writer.get_extra_info("socket")
                raw.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )
                writer.transport.abort()
            else:
                writer.close()
    await eventually(lambda: len(here.connections) == 0)
    found, _ = await exchange(here.port, [post(content=body(9))])
    assert found[0].status // 100 == 2


async def test_a_connection_goes_on_after_a_large_body(site: Any) -> None:
    """Reading stops while an application has not taken a body, and begins again."""
    here = await site(ingress_max_batch_bytes=8 * 2**20)
    reader, writer = await here.connect()
    large = b"[" + b",".join([body(1)] * 4_000) + b"]"
    for _ in range(3):
        writer.write(post(content=large, path="/api/messages:batch"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(GET)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(len(b'{"status":"ok"}'))


async def test_many_requests_at_once_are_each_answered_in_order(site: Any) -> None:
    here = await site()
    sent = b"".join(
        post(content=body(number)) + b"GET /n%d HTTP/1.1\r\nHost: x\r\n\r\n" % number
        for number in range(300)
    )
    found, closed = await exchange(here.port, [sent])
    assert [answer.status for answer in found] == [202, 404] * 300
    assert not closed


def test_more_connections_than_descriptors_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="INGRESS_MAX_CONNECTIONS=1000000000"):
        Bounds.of(IngressSettings(ingress_max_connections=1_000_000_000))
    assert 1 <= Bounds.of(IngressSettings()).connections <= 10_000
