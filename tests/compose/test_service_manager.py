"""Messages to systemd, in the format of sd_notify(3). ``test_systemd`` runs a real one."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from compose.process.service_manager import ServiceManager
from tests.support.eventually import eventually


@pytest.fixture(params=["file", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    """The value of ``NOTIFY_SOCKET``, and the socket there."""
    path = str(tmp_path / "s") if request.param == "file" else f"@crossfade-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(path.replace("@", "\0", 1))
        receiving.setblocking(False)
        yield path, receiving


def _heard(receiving: socket.socket) -> list[dict[str, str]]:
    heard = []
    while True:
        try:
            text = receiving.recv(4096).decode()
        except BlockingIOError:
            return heard
        heard.append(dict(line.split("=", 1) for line in text.split("\n")))


def test_it_is_told_of_the_start_and_of_a_reload(listening) -> None:
    path, receiving = listening
    manager = ServiceManager({"NOTIFY_SOCKET": path})
    before = time.monotonic_ns() // 1000
    manager.ready("2 processes")
    manager.reloading()
    ready, reloading = _heard(receiving)
    assert ready == {"READY": "1", "STATUS": "2 processes"}
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


async def test_it_gets_heartbeats_until_the_end_and_is_told_of_the_stop(listening) -> None:
    path, receiving = listening
    environment = {
        "NOTIFY_SOCKET": path,
        "WATCHDOG_USEC": "20000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    manager, stop, heard = ServiceManager(environment), asyncio.Event(), []
    watching = asyncio.create_task(manager.watch(stop))

    def beats(number: int) -> bool:
        heard.extend(_heard(receiving))
        return sum("WATCHDOG" in said for said in heard) >= number

    await eventually(lambda: beats(3))
    assert all(said == {"WATCHDOG": "1"} for said in heard)
    stop.set()
    heard.clear()
    await eventually(lambda: beats(3))
    assert [said for said in heard if "WATCHDOG" not in said] == [
        {"STOPPING": "1", "STATUS": "Stopping"}
    ]
    watching.cancel()


@pytest.mark.parametrize("whose", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": ""}])
async def test_no_heartbeat_is_sent_that_nobody_asked_this_process_for(listening, whose) -> None:
    path, receiving = listening
    manager = ServiceManager({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", **whose})
    stop = asyncio.Event()
    stop.set()
    await manager.watch(stop)
    assert _heard(receiving) == [{"STOPPING": "1", "STATUS": "Stopping"}]


def test_processes_that_this_one_starts_do_not_speak_for_it() -> None:
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/"}
    ServiceManager(environment)
    assert environment == {"PATH": "/"}


def test_without_systemd_nothing_is_sent() -> None:
    with capture_logs() as logs:
        ServiceManager({}).ready("serves")
    assert logs == []


def test_a_systemd_that_is_gone_is_logged_and_ends_nothing(tmp_path: Path) -> None:
    with capture_logs() as logs:
        ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("serves")
    (line,) = logs
    assert (line["event"], line["what"]) == ("systemd can't be told", "READY=1")
