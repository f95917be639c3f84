"""What a well-behaved client feels while another one attacks.

The service runs in a process of its own, with the 1,024 descriptors that are usual.
"""

# ruff: noqa: T201 - figures, shown with -s and where a test fails

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.hostile.http.conftest import answers, body, post
from tests.support.eventually import eventually

pytestmark = pytest.mark.quiet

_ROOT = Path(__file__).parents[3]
_BOUND = 0.5  # seconds that any request of others may take
_FILES = 1024
_numbers = itertools.count()


@pytest.fixture(autouse=True, scope="module")
def _many_files():
    """Allow for the other ends of all connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@dataclass
class _Server:
    pid: int
    port: int
    metrics: int

    def memory(self) -> float:
        """Return its resident memory in MiB."""
        return psutil.Process(self.pid).memory_info().rss / 2**20


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[_Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.http.server", str(_FILES),
        cwd=_ROOT, env={**os.environ, "PYTHONPATH": str(_ROOT)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        api, metrics = (await asyncio.wait_for(process.stdout.readline(), 30)).split()
        yield _Server(process.pid, int(api), int(metrics))
    finally:
        process.kill()
        await process.wait()


@dataclass
class _Felt:
    """How long each request of the well-behaved took, in seconds, by kind."""

    times: dict[str, list[float]] = field(default_factory=lambda: {"health": [], "POST": []})
    statuses: list[int] = field(default_factory=list)

    def told(self, what: str, server: _Server, before: float) -> None:
        for kind, times in self.times.items():
            p99 = statistics.quantiles(times, n=100)[98]
            print(
                f"{what}: {kind} n={len(times)} p50 {statistics.median(times) * 1000:.1f} ms, "
                f"p99 {p99 * 1000:.1f} ms, longest {max(times) * 1000:.1f} ms"
            )
        print(f"{what}: memory {before:.0f} -> {server.memory():.0f} MiB")

    @property
    def longest(self) -> float:
        return max(max(times) for times in self.times.values())


async def _ask(port: int, request: bytes) -> tuple[int, float]:
    """Send a request on a connection of its own, as a health check does."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    found = answers(await asyncio.wait_for(reader.read(), 30))
    took = time.perf_counter() - begun
    writer.close()
    return found[0].status, took


_CLOSE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def _behave(server: _Server, felt: _Felt, stop: asyncio.Event) -> None:
    """Check health on new connections and post on one that is kept, until told to stop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    while not stop.is_set():
        status, took = await _ask(server.port, _CLOSE)
        felt.statuses.append(status)
        felt.times["health"].append(took)
        begun = time.perf_counter()
        writer.write(post(content=body(next(_numbers))))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        felt.times["POST"].append(time.perf_counter() - begun)
        felt.statuses.append(int(head.split()[1]))
        await asyncio.sleep(0.005)
    writer.close()


async def _feel(
    what: str, server: _Server, attack: Callable[[], Awaitable[None]], *, seconds: float = 1.5
) -> None:
    """Run ``attack`` and judge what others felt for so many seconds from its beginning."""
    before, felt, stop = server.memory(), _Felt(), asyncio.Event()
    behaving = asyncio.create_task(_behave(server, felt, stop))
    await eventually(lambda: len(felt.statuses) > 20)
    attacking = asyncio.ensure_future(attack())
    await asyncio.sleep(seconds)
    stop.set()
    await behaving
    attacking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await attacking
    felt.told(what, server, before)
    assert set(felt.statuses) <= {200, 202}
    assert felt.longest < _BOUND
    assert server.memory() - before < 100


async def _send(port: int, first: bytes, rest: bytes, times: int) -> int:
    """Send ``first`` and ``rest`` again and again while it is taken; return what was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = 0
    try:
        writer.write(first)
        for _ in range(times):
            writer.write(rest)
            await writer.drain()
            taken += len(rest)
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    return taken


async def test_heads_of_200_mib(server: _Server) -> None:
    async def attack() -> None:
        start, piece = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 2**18
        taken = await asyncio.gather(*[_send(server.port, start, piece, 800) for _ in range(8)])
        assert max(taken) < 50 * 2**20

    await _feel("200 MiB of one header, 8 clients", server, attack)


async def test_two_million_headers(server: _Server) -> None:
    async def attack() -> None:
        start, piece = b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X: a\r\n" * 40_000
        taken = await asyncio.gather(*[_send(server.port, start, piece, 50) for _ in range(8)])
        assert max(taken) < 50 * 2**20

    await _feel("2 million headers, 8 clients", server, attack)


async def _trickle(port: int, start: bytes, byte: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        writer.write(start)
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(byte)
            await asyncio.sleep(0.1)
        got = await reading
    except ConnectionError:
        pass
    finally:
        writer.close()
    return got


async def test_slowloris(server: _Server) -> None:
    ended: list[bytes] = []

    async def attack() -> None:
        start = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "
        ended.extend(
            await asyncio.gather(*[_trickle(server.port, start, b"a") for _ in range(400)])
        )

    await _feel("slowloris, 400 clients", server, attack, seconds=4)
    assert len(ended) == 400
    assert [answers(got)[0].status for got in ended if got] == [408] * len([x for x in ended if x])


async def test_slow_bodies(server: _Server) -> None:
    ended: list[bytes] = []

    async def attack() -> None:
        start = post(content=b"x" * 100_000)[:-99_000]
        ended.extend(
            await asyncio.gather(*[_trickle(server.port, start, b"a") for _ in range(400)])
        )

    await _feel("slow bodies, 400 clients", server, attack, seconds=4)
    assert len(ended) == 400


async def test_clients_that_read_nothing(server: _Server) -> None:
    async def mute() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.transport.pause_reading()
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            writer.write(request * 200)
            await writer.drain()
            await asyncio.sleep(60)
        writer.transport.abort()

    async def attack() -> None:
        await asyncio.gather(*[mute() for _ in range(50)])

    await _feel("50 clients that read nothing", server, attack, seconds=3)
    await eventually(lambda: len(psutil.Process(server.pid).net_connections()) < 20)


async def test_idle_connections(server: _Server) -> None:
    idle: list[asyncio.StreamWriter] = []

    async def attack() -> None:
        for _ in range(1500):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            idle.append(writer)

    try:
        await _feel("1,500 idle connections", server, attack, seconds=3)
        assert psutil.Process(server.pid).num_fds() < _FILES - 100
    finally:
        for writer in idle:
            writer.close()


async def test_idle_connections_to_the_metrics(server: _Server) -> None:
    """A scrape is answered all the same, and no thread is spent on those that wait."""
    idle: list[asyncio.StreamWriter] = []
    scrape = b"GET /metrics HTTP/1.0\r\n\r\n"
    times: list[float] = []

    async def attack() -> None:
        for number in range(1100):
            _, writer = await asyncio.open_connection("127.0.0.1", server.metrics)
            idle.append(writer)
            if number % 100 == 0:
                begun = time.perf_counter()
                reader, writer = await asyncio.open_connection("127.0.0.1", server.metrics)
                writer.write(scrape)
                got = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                assert got.startswith(b"HTTP/1.0 200")
                times.append(time.perf_counter() - begun)

    try:
        await _feel("1,100 idle connections to the metrics", server, attack, seconds=3)
        print(f"a scrape during it: longest {max(times) * 1000:.1f} ms")
        assert max(times) < 1.0
        assert psutil.Process(server.pid).num_threads() < 60
        assert psutil.Process(server.pid).num_fds() < 200
    finally:
        for writer in idle:
            writer.close()
