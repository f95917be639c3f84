"""``crossfade up``: keeps yesterday's messages, gets out of the way, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.compose.test_guide_steps import BODY, JSON
from tests.support.eventually import eventually


def _alive(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return [pid for pid in pids if lives(pid)]


async def _post(api: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"{api}/api/messages", content=BODY, headers=JSON)


async def _post_large(api: str) -> str:
    message = '{"conversationId": "c", "senderId": "s", "clientMessageId": "large"}'
    form = {"message": (None, message), "content": ("large.txt", b"large " * 20_000)}
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{api}/api/messages", files=form)
    assert answer.status_code == 202
    identifier: str = answer.json()["messageId"]
    return identifier


@contextmanager
def _taken(*ports: int) -> Iterator[list[int]]:
    """Listen on the ports that nobody else has; they are taken either way."""
    with ExitStack() as stack:
        for port in ports:
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind(("127.0.0.1", port))
                holder.listen()
            except OSError:
                continue
        yield list(ports)


async def test_ctrl_c_stops_everything_with_status_0_and_the_next_run_has_the_messages(
    typed_up, up
):
    running, api, _ = await typed_up("--s3")
    await running.says(r"Payloads +seaweedfs .* http://127.0.0.1:\d+")
    first = (await _post(api)).json()
    large = await _post_large(api)
    members = running.family()
    assert len(members) > 7  # ours, the guards, the servers and their own children
    assert await running.interrupt() == 0
    assert _alive(members) == []
    assert "Traceback" not in running.text

    narrow, api, _ = await up(COLUMNS="60")
    await narrow.says("seaweedfs")  # it has the payloads, and runs again
    again = (await _post(api)).json()
    assert again["idempotentHit"] is True
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{api}/api/messages/{large}/content")
        assert answer.content == b"large " * 20_000
    assert "\\n" not in narrow.text  # a remark goes to a line of its own
    assert again["messageId"] == first["messageId"]
    assert again["acceptedAt"] == first["acceptedAt"]


async def test_several_processes_share_the_port_the_log_file_and_the_end(up, tmp_path):
    running, api, metrics = await up("--processes", "2", "--workers", "1")
    await running.says("Runs as +2 processes accept, 1 consumes")
    answer = await _post(api)
    assert answer.status_code == 202
    log = (tmp_path / ".crossfade" / "crossfade.log").read_text()
    assert {'"serve 1"', '"serve 2"', '"worker 1"'} <= set(re.findall(r'"process":("[^"]+")', log))
    assert "Worker started" not in running.text  # in the file: no warning
    async with httpx.AsyncClient() as client:
        assert "stream_enqueue_total" in (await client.get(metrics)).text
    members = running.family()
    assert await running.interrupt() == 0
    assert _alive(members) == []
    assert "error" not in running.text


async def test_nothing_is_left_running_when_up_itself_is_killed_and_the_next_run_starts(
    typed_up, up
):
    running, api, _ = await typed_up()
    first = (await _post(api)).json()
    members = running.family()
    await running.kill()
    await eventually(lambda: _alive(members) == [])

    _, api, _ = await up()
    assert (await _post(api)).json()["messageId"] == first["messageId"]


async def test_a_run_right_after_a_kill_waits_for_the_old_servers_to_end(up):
    running, _, _ = await up()
    await running.kill()
    again, api, _ = await up()
    assert (await _post(api)).status_code == 202
    assert await again.interrupt() == 0


async def test_sigterm_while_starting_ends_it_with_nothing_left(typed_crossfade):
    running = await typed_crossfade("up")
    await running.says("Starting")
    members = running.family()
    assert await running.terminate() == 0
    # What was being started under a guard ends with the guard, a moment after its owner.
    await eventually(lambda: _alive(members) == [])


async def test_a_second_up_in_the_same_folder_is_refused_with_the_pid_of_the_first(up, crossfade):
    running, api, _ = await up()
    second = await crossfade("up")
    assert await second.ends() == 1
    assert f"pid {running.process.pid}" in second.text
    assert "Traceback" not in second.text
    assert (await _post(api)).status_code == 202


async def test_ports_that_are_taken_are_passed_over_and_named(up):
    with _taken(3000, 5432, 6379, 9090) as taken:
        running, api, metrics = await up()
        ports = {httpx.URL(url).port for url in (api, metrics)}
        assert ports.isdisjoint(taken)
        assert "PORT 3000 is taken" in running.text
        assert "METRICS_PORT 9090 is taken" in running.text
        redis = (await running.says(r"redis-cli -p (\d+)"))[1]
        database = (await running.says(r"psql \S+:(\d+)/"))[1]
        (told,) = [line for line in running.lines if line.startswith("Guides")]
        assert f"{httpx.URL(api).port} for 3000" in told
        moved = {"Redis": (redis, "6379"), "PostgreSQL": (database, "5432")}
        for name, (used, usual) in moved.items():
            if used != usual:  # as it is unless another process had it, and gave it back since
                assert f"{name}'s port {usual} is taken; using {used}" in running.text
                assert f"{used} for {usual}" in told
        assert (await _post(api)).status_code == 202
        assert f"curl -X POST {api}/" in running.text


async def test_a_server_that_dies_is_started_again_and_nothing_acknowledged_is_lost(
    up, tmp_path: Path
):
    running, api, _ = await up()
    first = (await _post(api)).json()
    port = int((await running.says(r"redis-cli -p (\d+)"))[1])
    server = await asyncio.to_thread(_pid_listening, running.family(), port)
    os.kill(server, 9)
    await running.says("starting it again")

    async def answered() -> bool:
        return (await _post(api)).status_code == 200

    await eventually(answered)
    assert (await _post(api)).json()["messageId"] == first["messageId"]
    assert await running.interrupt() == 0


def _pid_listening(pids: list[int], port: int) -> int:
    import psutil  # noqa: PLC0415 - only here

    for pid in pids:
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return pid
    raise AssertionError(f"nothing of {pids} listens on {port}")


async def test_a_bad_setting_is_one_line_and_no_server_is_started(crossfade, tmp_path: Path):
    running = await crossfade("up", STREAM_PARTITIONS="many", REDIS_PASSWORD="hunter2")
    assert await running.ends() == 2
    assert running.lines == [
        "error: STREAM_PARTITIONS='many' can't be used: give a whole number from 1 to 4096"
    ]
    assert not (tmp_path / ".crossfade" / "postgres").exists()
