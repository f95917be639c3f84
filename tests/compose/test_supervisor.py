"""Several processes under one supervisor: one port, restarts, reloads, and no orphans."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import httpx
import psutil
import pytest
from redis.asyncio import Redis

from compose.local.ports import free_port
from compose.supervisor.listeners import Listeners
from compose.supervisor.supervisor import Layout, StartFailedError, Supervisor
from tests.support.eventually import eventually
from tests.support.keep_alive import keep_alive_load
from transport.errors import ConfigurationError


def _children(pid: int) -> dict[str, int]:
    """Return the processes of a supervisor by their names, such as ``serve 1``."""
    found = {}
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            command = child.cmdline()
            if "compose.supervisor.child" in command:
                found[command[command.index("compose.supervisor.child") + 1]] = child.pid
    return found


def _has_ended(pid: int) -> bool:
    """Return whether a process is gone; one whose parent was killed may not be reaped yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


async def _enqueued(port: int) -> float:
    """Return how many messages the process has accepted whose metrics are on this port."""
    text = (await _get(f"http://127.0.0.1:{port}/metrics")).text
    return sum(map(float, re.findall(r"^stream_enqueue_total\{.*\} (\S+)", text, re.MULTILINE)))


async def _answers(port: int) -> bool:
    """Return whether a new connection is served."""
    with suppress(httpx.TransportError):
        return (await _get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    return False


async def test_processes_share_one_port_and_are_seen(crossfade, places):
    running = await crossfade("serve", "--processes", "2", "--workers", "1", **places)
    await running.says('"event":"Started"')
    assert "2 processes accept, 1 consumes" in running.text
    assert set(_children(running.process.pid)) == {"serve 1", "serve 2", "worker 1"}
    port, metrics = int(places["PORT"]), int(places["METRICS_PORT"])
    async with keep_alive_load(port, 32, pause=0.02) as load:
        await eventually(lambda: load.statuses[202] > 500)
    assert (load.faults, set(load.statuses)) == ([], {202})
    found = re.findall(r'"role":"(\w+)".*"metrics":"http://127.0.0.1:(\d+)/metrics"', running.text)
    accepted = {int(of): await _enqueued(int(of)) for role, of in found if role == "serve"}
    assert len(accepted) == 2
    assert min(accepted.values()) > 0  # both had connections
    targets = (await _get(f"http://127.0.0.1:{metrics}/metrics/targets")).json()
    assert len(targets) <= 3
    database = await asyncpg.connect(places["DATABASE_URL"])
    try:

        async def all_persisted() -> bool:
            rows = await database.fetchval("SELECT count(*) FROM messages")
            return bool(rows == sum(accepted.values()))

        await eventually(all_persisted)
        roles = await database.fetch("SELECT role, owned FROM processes ORDER BY role")
    finally:
        await database.close()
    assert [row["role"] for row in roles] == ["serve", "serve", "worker"]
    assert [row["owned"] for row in roles[:2]] == ["{}", "{}"]  # they only accept
    children = _children(running.process.pid).values()
    assert await running.terminate() == 0
    assert all(map(_has_ended, children))
    assert '"event":"Stopped"' in running.lines[-1]


async def test_a_process_that_dies_is_restarted_and_others_take_its_connections(crossfade, places):
    running = await crossfade("serve", "--processes", "2", **places)
    await running.says('"event":"Started"')
    port, victim = int(places["PORT"]), _children(running.process.pid)["serve 2"]
    os.kill(victim, signal.SIGKILL)
    await running.says(f'Process ended: starting another.*"pid":{victim},"ended":"SIGKILL"')
    assert all([await _answers(port) for _ in range(20)])  # while it is away

    async def is_back() -> bool:
        return _children(running.process.pid).get("serve 2", victim) != victim

    await eventually(is_back)
    await running.says(r'(?s)(\{"timestamp":[^\n]*"event":"Starting","role":"serve"[^\n]*\n.*){3}')
    assert await running.terminate() == 0


async def test_a_reload_replaces_each_process_and_no_request_notices(crossfade, places):
    running = await crossfade("serve", "--processes", "2", "--workers", "1", **places)
    await running.says('"event":"Started"')
    before = _children(running.process.pid)
    async with keep_alive_load(int(places["PORT"]), 8, pause=0.1) as load:
        await eventually(lambda: load.statuses[202] > 100)
        running.process.send_signal(signal.SIGHUP)
        await running.says('"event":"Reloaded"')
        sent = load.statuses.total()
        await eventually(lambda: load.statuses.total() > sent + 100)
    assert (load.faults, set(load.statuses)) == ([], {202})
    assert load.told_to_leave > 0
    after = _children(running.process.pid)
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert await running.terminate() == 0


async def test_a_port_is_ready_through_a_reload_and_not_once_all_stop(crossfade, places):
    """A proxy knows the port alone: a no from one process would exclude the others too."""
    running = await crossfade(
        "serve", "--processes", "2", **{**places, "SHUTDOWN_DELAY_SECONDS": "2"}
    )
    await running.says('"event":"Started"')
    url, statuses = f"http://127.0.0.1:{places['PORT']}/readyz", Counter()

    async def is_ready() -> bool:
        status = (await _get(url)).status_code
        statuses[status] += 1
        return status == 200

    await eventually(is_ready)
    statuses.clear()
    running.process.send_signal(signal.SIGHUP)
    while '"event":"Reloaded"' not in running.text:
        await is_ready()
        await asyncio.sleep(0.02)
    assert set(statuses) == {200}, statuses
    assert statuses.total() > 50  # new connections; each process had some
    running.process.send_signal(signal.SIGTERM)
    await eventually(lambda: _says_no(is_ready))
    assert await running.ends() == 0


async def _says_no(is_ready: Callable[[], Awaitable[bool]]) -> bool:
    return not await is_ready()


async def test_a_stop_in_a_reload_is_orderly(crossfade, places):
    """The process that is being replaced gets a second signal, and may still have requests."""
    running = await crossfade(
        "serve", "--processes", "1", **{**places, "SHUTDOWN_DELAY_SECONDS": "3"}
    )
    await running.says('"event":"Started"')
    old = _children(running.process.pid)["serve 1"]
    running.process.send_signal(signal.SIGHUP)
    await running.says('"event":"Stopping"')
    await asyncio.sleep(0.6)  # a signal that comes sooner is taken for an echo of the first
    running.process.send_signal(signal.SIGTERM)
    assert await running.ends() == 0
    assert "Stopping at once" not in running.text
    assert _has_ended(old)
    assert len(re.findall('"event":"Stopped"', running.text)) == 3  # both, and the supervisor


async def test_a_process_that_dies_after_a_reload_is_restarted_at_once(crossfade, places):
    """The process that it replaced still finishes its requests, and accepts no more."""
    running = await crossfade(
        "serve", "--processes", "1", **{**places, "SHUTDOWN_DELAY_SECONDS": "0"}
    )
    await running.says('"event":"Started"')
    port, old = int(places["PORT"]), _children(running.process.pid)["serve 1"]
    _, slow = await asyncio.open_connection("127.0.0.1", port)
    try:
        slow.write(
            b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert await _answers(port)
        running.process.send_signal(signal.SIGHUP)
        await running.says('"event":"Stopping"')
        (new,) = {child.pid for child in psutil.Process(running.process.pid).children()} - {old}
        os.kill(new, signal.SIGKILL)
        await running.says("Process ended: starting another")
        await eventually(lambda: _answers(port))
        assert not _has_ended(old)
    finally:
        slow.close()
    assert await running.terminate() == 0


async def test_a_reload_into_settings_that_fail_keeps_the_processes(crossfade, places, tmp_path):
    running = await crossfade("serve", "--processes", "2", **places)
    await running.says('"event":"Started"')
    before = _children(running.process.pid)
    (tmp_path / ".env").write_text("INGRESS_QUEUE_LIMIT=none\n")
    running.process.send_signal(signal.SIGHUP)
    await running.says("INGRESS_QUEUE_LIMIT='none' can't be used")
    await running.says('Reload given up.*"ended":"status 2"')
    assert _children(running.process.pid) == before
    assert await _answers(int(places["PORT"]))
    assert await running.terminate() == 0


async def test_processes_end_with_a_supervisor_that_is_killed(crossfade, places):
    running = await crossfade("serve", "--processes", "1", "--workers", "1", **places)
    await running.says('"event":"Started"')
    children = _children(running.process.pid).values()
    await running.kill()
    assert len(re.findall("The supervisor is gone: stopping", running.text)) == 2
    await eventually(lambda: all(map(_has_ended, children)))
    with socket.create_server(("127.0.0.1", int(places["PORT"]))):
        pass  # free again


async def test_a_taken_port_is_told_once(crossfade, places):
    with socket.create_server(("127.0.0.1", int(places["PORT"]))):
        running = await crossfade("serve", "--processes", "2", **places)
        assert await running.ends() == 2
    assert running.text.count(f"PORT={places['PORT']} is taken") == 1
    assert "Traceback" not in running.text


def test_two_supervisors_do_not_share_a_port():
    port = free_port()
    first = Listeners("127.0.0.1", port, 2)
    with socket.socket(fileno=os.dup(first.descriptor(0))) as its:
        its.listen()
        with pytest.raises(ConfigurationError, match="is taken"):
            Listeners("127.0.0.1", port, 2)
    first.close()


async def test_a_setting_that_the_servers_refuse_ends_all(crossfade, places):
    async with Redis(host=places["REDIS_HOST"], port=int(places["REDIS_PORT"])) as client:
        await client.config_set("maxmemory", "1gb")
        await client.config_set("maxmemory-policy", "allkeys-lru")
    running = await crossfade("serve", "--processes", "2", **places)
    assert await running.ends() == 2
    assert "allkeys-lru" in running.text
    assert "Traceback" not in running.text


@asynccontextmanager
async def _supervised(
    layout: Layout, places: dict[str, str], *, until_started: bool = True, **options
) -> AsyncIterator[None]:
    listeners = Listeners("127.0.0.1", int(places["PORT"]), layout.processes)
    supervisor = Supervisor(layout, listeners, environment=places, **options)
    started = asyncio.create_task(supervisor.start())

    async def run() -> None:
        await started
        await supervisor.run(asyncio.Event(), asyncio.Event())

    if until_started:
        await started
    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await supervisor.stop()


async def test_a_process_that_hangs_is_killed_and_replaced(places):
    async with _supervised(Layout(1), places, stop_seconds=20, silent_seconds=3):
        hung = _children(os.getpid())["serve 1"]
        os.kill(hung, signal.SIGSTOP)
        await eventually(lambda: _has_ended(hung))
        await eventually(lambda: _answers(int(places["PORT"])))
        assert _children(os.getpid())["serve 1"] != hung


async def test_a_process_that_hangs_in_the_start_is_killed_and_told(places):
    def said(line: str) -> None:
        if '"event":"Starting"' in line:  # it has sent a heartbeat, and does not serve yet
            os.kill(_children(os.getpid())["serve 1"], signal.SIGSTOP)

    supervisor = Supervisor(
        Layout(1),
        Listeners("127.0.0.1", int(places["PORT"]), 1),
        environment=places,
        stop_seconds=1,
        silent_seconds=3,
        said=said,
    )
    try:
        async with asyncio.timeout(30):
            with pytest.raises(StartFailedError, match="SIG"):
                await supervisor.start()
    finally:
        await supervisor.stop()


async def test_a_process_that_hangs_says_where(places):
    said: list[str] = []
    # So short that a look finds any process silent, perhaps before it serves.
    async with _supervised(
        Layout(1), places, stop_seconds=20, silent_seconds=1, said=said.append, until_started=False
    ):
        await eventually(lambda: "Fatal Python error: Aborted" in said)
        # Imports in the start may be deeper than the frames that are written: any frame will do.
        await eventually(lambda: any(line.startswith('  File "') for line in said))


async def test_a_process_that_does_not_stop_is_killed_in_time(places):
    async with _supervised(Layout(1), places, stop_seconds=1):
        stuck = _children(os.getpid())["serve 1"]
        os.kill(stuck, signal.SIGSTOP)
    assert _has_ended(stuck)
