"""The load generator, against a server that stalls, breaks and answers in pieces."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from compose.local.ports import free_port
from lab.load.arrivals import gaps
from lab.load.client import Client, NeverSentError, UnansweredError
from lab.load.connection import HttpAnswer
from lab.load.generator import Generator
from lab.load.turns import turns

_ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nX-Much: y\r\n\r\n{}"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


class Numbers:
    """A workload that numbers its requests and keeps what they took."""

    def __init__(self, enough_at: int = 1 << 30) -> None:
        self.took: dict[int, float] = {}
        self.broken: list[int] = []
        self.enough = asyncio.Event()
        self._enough_at = enough_at

    def request(self, number: int) -> bytes:
        """Return a request."""
        return b"POST /%d HTTP/1.1\r\nContent-Length: 0\r\n\r\n" % number

    def answered(self, number: int, due: float, answer: HttpAnswer | None) -> None:
        """Keep how long it took."""
        if answer is None:
            self.broken.append(number)
        else:
            self.took[number] = time.monotonic() - due
        if len(self.took) >= self._enough_at:
            self.enough.set()


@asynccontextmanager
async def _server(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def _always(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
    writer.close()


async def test_a_stall_shows_in_every_request_that_it_delayed() -> None:
    """Requests are due at their rate; those of the stall took from then, not from when sent."""
    stall = 0.4
    stalled = asyncio.Event()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/50 " in head:
                    asyncio.get_running_loop().call_later(stall, over.set)
                    stalled.set()
                if stalled.is_set():
                    await over.wait()
                writer.write(_ANSWER)
        writer.close()

    workload = Numbers()
    async with _server(serve) as address, Generator(address, 2, workload) as generator:
        began = time.monotonic()
        await generator.open(began + n / 500 for n in range(300))
    assert sorted(workload.took) == list(range(300))
    slow = [n for n, took in workload.took.items() if took > stall / 4]
    # One request waits in each of two connections; all others wait for their turn.
    assert len(slow) >= stall * 3 / 4 * 500 * 0.9
    assert workload.took[50] >= stall * 0.99
    assert workload.took[100] >= (stall - 50 / 500) * 0.99


async def test_a_closed_loop_sends_the_next_when_the_last_is_answered() -> None:
    workload = Numbers(enough_at=200)
    async with _server(_always) as address, Generator(address, 4, workload) as generator:
        await generator.closed(workload.enough, seconds=20)
    assert len(workload.took) >= 200
    assert sorted(workload.took)[:190] == list(range(190))
    assert generator.sent <= len(workload.took) + 4


async def test_a_broken_connection_is_told_and_the_others_go_on() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while b"/3 " not in await reader.readuntil(b"\r\n\r\n"):
                writer.write(_ANSWER[:10])
                await writer.drain()
                writer.write(_ANSWER[10:])
        writer.close()

    workload = Numbers(enough_at=20)
    async with _server(serve) as address, Generator(address, 2, workload) as generator:
        await generator.closed(workload.enough, seconds=20)
    assert workload.broken == [3]


async def test_a_client_tells_what_never_left_from_what_was_not_answered() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def hung(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    client = Client(timeout=0.5)
    with pytest.raises(NeverSentError):
        await client.post(f"http://127.0.0.1:{free_port()}/", {})
    for serve, why in ((silent, "ended"), (hung, "TimeoutError")):
        async with _server(serve) as (host, port):
            with pytest.raises(UnansweredError, match=why):
                await client.post(f"http://{host}:{port}/", {"content": "x"})


async def test_a_client_sends_a_large_body_and_reads_an_answer_that_ends_with_the_connection() -> (
    None
):
    size = 4_000_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        got = await reader.readexactly(length)
        writer.write(b"HTTP/1.0 503 Gone\r\nConnection: close\r\n\r\n%d" % len(got))
        writer.close()

    client = Client()
    async with _server(serve) as (host, port):
        answer = await client.post(f"http://{host}:{port}/", {"content": "x" * size})
        again = await client.post(f"http://{host}:{port}/", {"content": ""})
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert answer.json() == size + len('{"content": ""}')
    assert again.json() == len('{"content": ""}')


async def test_a_client_reads_an_answer_in_chunks_and_keeps_the_connection() -> None:
    """An ingress sends a large page in chunks, so without a length (RFC 9112, section 7.1)."""
    chunks = [b'{"items": "', b"\r\n0\r\n\r\n" * 9_000, b'"}']
    peers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while b"/cut" not in await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for chunk in chunks:
                    writer.write(b"%x\r\n" % len(chunk))
                    await writer.drain()
                    writer.write(chunk + b"\r\n")
                writer.write(b"0\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}")
        writer.close()

    client = Client()
    async with _server(serve) as (host, port):
        answers = [await client.get(f"http://{host}:{port}/{n}") for n in range(3)]
        with pytest.raises(UnansweredError, match="ended"):
            await client.get(f"http://{host}:{port}/cut")
    assert [answer.body for answer in answers] == [b"".join(chunks)] * 3
    assert len(peers) == 1


@pytest.mark.parametrize("catch_up", [True, False])
async def test_a_sender_that_was_kept_waiting_catches_up_if_it_is_to(catch_up: bool) -> None:
    gap, kept = 0.1, 0.35
    moments = []
    async for due in turns(itertools.repeat(gap, 5), asyncio.Event(), catch_up=catch_up):
        moments.append(due)
        assert time.monotonic() >= due
        if len(moments) == 2:
            await asyncio.sleep(kept)
    between = [later - before for before, later in itertools.pairwise(moments)]
    if catch_up:
        assert between == pytest.approx([gap] * 4)
    else:
        # The third was late, and the fourth is due a gap after that.
        assert min(between) >= gap * 0.999
        assert between[2] >= kept * 0.999


async def test_a_sender_stops_in_the_middle_of_its_wait() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stopped.set)
    async with asyncio.timeout(10):
        assert [due async for due in turns(gaps(0.001), stopped, first=1000)] == []


def test_poisson_arrivals_have_the_rate_and_come_in_crowds() -> None:
    even, poisson = (
        list(itertools.islice(gaps(100, arrivals, seed=1), 10_000))
        for arrivals in ("even", "poisson")
    )
    assert sum(even) == pytest.approx(100)
    assert sum(poisson) == pytest.approx(100, rel=0.05)
    assert sum(gap < 0.001 for gap in poisson) == pytest.approx(950, rel=0.15)
