"""What a well-behaved client feels while another one attacks.

The service runs in a process of its own, with the 1,024 descriptors that are usual.
"""

# ruff: noqa: T201 - figures, shown with -s and where a test fails

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.hostile.http.conftest import answers, post
from tests.support.eventually import eventually

pytestmark = pytest.mark.quiet

_ROOT = Path(__file__).parents[3]
_BOUND = 0.5  # seconds; the p99 of what others ask
_FILES = 1024


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
    process = await _start("server", _FILES)
    assert process.stdout is not None
    try:
        api, metrics = (await asyncio.wait_for(process.stdout.readline(), 30)).split()
        yield _Server(process.pid, int(api), int(metrics))
    finally:
        process.kill()
        await process.wait()


async def _start(module: str, argument: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.hostile.http.{module}", str(argument), cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)}, limit=2**24,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _feel(
    what: str, server: _Server, attack: Callable[[], Awaitable[None]], *, seconds: float = 1.5
) -> None:
    """Run ``attack`` and judge what others felt for so many seconds from its beginning."""
    before = server.memory()
    behaving = await _start("well_behaved_client", server.port)
    assert behaving.stdin is not None
    assert behaving.stdout is not None
    assert await asyncio.wait_for(behaving.stdout.readline(), 30) == b"begun\n"
    attacking = asyncio.ensure_future(attack())
    await asyncio.sleep(seconds)
    behaving.stdin.close()
    felt = json.loads(await asyncio.wait_for(behaving.stdout.readline(), 60))
    await behaving.wait()
    attacking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await attacking
    for kind, requests in felt.items():
        times = [took * 1000 for took, _ in requests]
        p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
        print(
            f"{what}: {kind} n={len(times)} p50 {statistics.median(times):.1f} ms, "
            f"p99 {p99:.1f} ms, longest {max(times):.1f} ms"
        )
        assert p99 < _BOUND * 1000
    print(f"{what}: memory {before:.0f} -> {server.memory():.0f} MiB")
    assert {status for requests in felt.values() for _, status in requests} <= {200, 202}
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


async def test_bodies_that_stop_after_their_first_piece(server: _Server) -> None:
    start = post(content=b"x" * 900_000)[:250_000]
    opened: list[asyncio.StreamWriter] = []

    async def attack() -> None:
        for _ in range(600):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            opened.append(writer)
            writer.write(start)

    try:
        await _feel("600 bodies that stop", server, attack)
    finally:
        for writer in opened:
            writer.transport.abort()


async def test_clients_that_read_nothing(server: _Server) -> None:
    async def mute() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.transport.pause_reading()
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        try:
            writer.write(request * 200)
            await writer.drain()
            await asyncio.sleep(60)
        except ConnectionError:
            pass
        finally:
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
