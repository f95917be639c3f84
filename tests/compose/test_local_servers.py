"""The servers under the tests: they start, keep their data, take faults, and never outlive us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from compose.local.postgres import PostgresServer
from compose.local.seaweed import SeaweedServer
from compose.local.server import LocalServer, ServerError
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually

_KINDS = {"valkey": ValkeyServer, "postgres": PostgresServer, "seaweed": SeaweedServer}
each = pytest.mark.parametrize("kind", _KINDS)
two = pytest.mark.parametrize("kind", ["valkey", "postgres"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _put(server: LocalServer) -> None:
    if isinstance(server, PostgresServer):
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        await connection.close()
    elif isinstance(server, SeaweedServer):
        await server.store().put_async("kept", b"1")
    else:
        async with Redis(port=server.port) as client:
            await client.set("kept", "1")


async def _has(server: LocalServer) -> bool:
    if isinstance(server, PostgresServer):
        connection = await asyncpg.connect(server.url)
        try:
            return await connection.fetchval("SELECT n FROM kept") == 1
        finally:
            await connection.close()
    if isinstance(server, SeaweedServer):
        found = await server.store().get_async("kept")
        return bytes(await found.bytes_async()) == b"1"
    async with Redis(port=server.port) as client:
        return await client.get("kept") == b"1"


async def test_memory_of_a_drained_backlog_goes_back_to_the_system(tmp_path: Path):
    """With the C library's malloc, all of it is kept, whatever comes next."""
    async with (
        ValkeyServer(tmp_path / "data", config={"appendfsync": "no"}) as server,
        Redis(port=server.port) as client,
    ):

        async def resident() -> int:
            return int((await client.info("memory"))["used_memory_rss"])

        await client.ping()
        for _ in range(60):
            pipeline = client.pipeline(transaction=False)
            for _ in range(1000):
                pipeline.xadd("backlog", {"body": b"x" * 1000})
            await pipeline.execute()
        full = await resident()
        assert full > 60_000_000
        for left in range(59_000, -1, -1000):
            await client.xtrim("backlog", maxlen=left, approximate=False)

        async def is_given_back() -> bool:
            # Traffic goes on: mimalloc looks for what it can give back when memory is asked for.
            pipeline = client.pipeline(transaction=False)
            for _ in range(100):
                pipeline.xadd("next", {"body": b"x" * 1000})
            pipeline.xtrim("next", maxlen=0, approximate=False)
            await pipeline.execute()
            return await resident() < full / 2

        await eventually(is_given_back, every=0.2)  # jemalloc waits for some seconds


@each
async def test_data_and_port_survive_a_restart_and_a_kill(kind: str, tmp_path: Path):
    server = _KINDS[kind](tmp_path / "data")
    await server.start()
    try:
        port = server.port
        await _put(server)
        await server.restart()
        assert await _has(server)
        await server.kill()
        assert not server.running
        await server.start()
        assert server.port == port
        assert await _has(server)
    finally:
        await server.stop()


@two
async def test_a_suspended_server_answers_nothing_until_it_is_resumed(kind: str, tmp_path: Path):
    server = _KINDS[kind](tmp_path / "data")
    await server.start()
    try:
        await _put(server)
        await server.suspend()
        with pytest.raises((TimeoutError, RedisConnectionError)):
            await asyncio.wait_for(_has(server), 0.5)
        assert server.running
        await server.resume()
        assert await _has(server)
        await server.suspend()  # stop() must reach a suspended one too
    finally:
        await server.stop()
    assert not server.running


@two
async def test_a_suspended_server_stands_still_on_a_busy_machine(kind: str, tmp_path: Path):
    """It stops only once it gets the processor; until then it would answer."""
    async with _KINDS[kind](tmp_path / "data") as server:
        with _busy_machine():
            for _ in range(5):
                await server.suspend()
                assert _states(server.pid) == {"T"}
                await server.resume()


@contextmanager
def _busy_machine() -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def _states(pid: int) -> set[str]:
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


@two
async def test_no_server_outlives_an_owner_that_was_killed(kind: str, tmp_path: Path):
    program = f"""
        import asyncio, pathlib
        from compose.local.{kind} import {_KINDS[kind].__name__} as Server
        async def main():
            server = Server(pathlib.Path({str(tmp_path / "data")!r}))
            await server.start()
            print(server.pid, server.port, flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert owner.stdout is not None
    pid, _port = map(int, (await owner.stdout.readline()).split())
    assert _alive(pid)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    await eventually(lambda: not _alive(pid))
    # The next run waits for what the guard of the last one is still stopping, and starts.
    server = _KINDS[kind](tmp_path / "data")
    await server.start()
    await server.stop()


@two
async def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(kind: str, tmp_path: Path):
    server = _KINDS[kind](tmp_path / "data")
    await server.start()
    try:
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)
    finally:
        await server.stop()


@two
async def test_a_second_server_on_the_same_data_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("compose.local.server._OTHERS_STOP", 0.2)
    first = _KINDS[kind](tmp_path / "data")
    await first.start()
    try:
        second = _KINDS[kind](tmp_path / "data")
        with pytest.raises(ServerError, match=rf"pid {first.pid}.*kill {first.pid}"):
            await second.start()
        assert first.running
    finally:
        await first.stop()


@each
async def test_a_server_that_cannot_start_says_why(kind: str, tmp_path: Path):
    holder = ValkeyServer(tmp_path / "holder")
    await holder.start()
    try:
        server = _KINDS[kind](tmp_path / "data", port=holder.port)
        with pytest.raises(ServerError, match="in use"):
            await server.start()
        assert not server.running
    finally:
        await holder.stop()


async def test_a_stale_pid_file_with_a_reused_number_does_not_stop_postgres(tmp_path: Path):
    server = PostgresServer(tmp_path / "data")
    await server.initialize()
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n0\n0\n\n\n\n")
    await server.start()
    await server.stop()
