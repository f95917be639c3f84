"""The unit of ``docs/production.md``, under a real systemd."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.crossfade import COMMAND
from tests.support.eventually import eventually
from tests.support.systemd import Systemd, run_systemd

_UNIT = "crossfade.service"
_DOCUMENT = Path(__file__).parents[2] / "docs" / "production.md"
# A manager of a user may not change users. Those of namespaces need mounts that a test may lack.
_ONLY_OF_THE_SYSTEM = ("User", "ProtectSystem", "PrivateTmp", "PrivateDevices")


def _documented() -> list[str]:
    """Return the lines of the documented unit's ``[Service]``."""
    block = re.search(r"```ini\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    assert block is not None
    service = re.search(r"\[Service\]\n(.*?)\n\n", block[1], re.DOTALL)
    assert service is not None
    lines = service[1].splitlines()
    return [line for line in lines if line.partition("=")[0] not in _ONLY_OF_THE_SYSTEM]


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[Systemd]:
    async with run_systemd(tmp_path) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, places: dict[str, str]) -> Path:
    """The service's folder, with its settings."""
    made = tmp_path / "srv"
    made.mkdir()
    (made / ".env").write_text("".join(f"{name}={value}\n" for name, value in places.items()))
    return made


def _install(systemd: Systemd, folder: Path, command: str, *changes: str) -> Path:
    """Write the documented unit, with another command and the ``changes``; return its log."""
    log = folder / "log"
    lines = [
        re.sub(r"^ExecStart=\S+ .*", f"ExecStart={COMMAND} {command}", line).replace(
            "/srv/crossfade", str(folder)
        )
        for line in _documented()
    ]
    unit = ["DefaultDependencies=no", "StartLimitIntervalSec=0"]
    service = [*lines, f"StandardError=append:{log}", *changes]
    text = "\n".join(["[Unit]", *unit, "[Service]", *service, ""])
    (systemd.folder / _UNIT).write_text(text)
    return log


async def _status(port: str, path: str = "/readyz") -> int:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}{path}")).status_code


async def test_it_is_started_when_it_serves_and_reloaded_when_all_are_replaced(
    systemd: Systemd, folder: Path, places: dict[str, str]
) -> None:
    log = _install(systemd, folder, "serve --processes 2 --workers 1")
    await systemd.done("start", _UNIT)
    assert await _status(places["PORT"]) == 200, "at once"
    told = "2 processes accept, 1 consumes"
    assert await systemd.property(_UNIT, "StatusText") == told
    before = await systemd.property(_UNIT, "MainPID")

    async def is_reloading() -> bool:
        state = await systemd.property(_UNIT, "ActiveState")
        told = await systemd.property(_UNIT, "StatusText")
        return (state, told) == ("reloading", "Replacing each process")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(systemd.done("reload", _UNIT))
        await eventually(is_reloading)

    async def is_reloaded() -> bool:
        state = await systemd.property(_UNIT, "ActiveState")
        return (state, '"Reloaded"' in log.read_text()) == ("active", True)

    await eventually(is_reloaded)
    assert await systemd.property(_UNIT, "StatusText") == told
    assert await systemd.property(_UNIT, "MainPID") == before
    assert await systemd.property(_UNIT, "NRestarts") == "0"
    assert log.read_text().count('"Starting","role":"serve"') == 4, "two, and two in their place"
    assert "systemd can't be told" not in log.read_text()

    await systemd.done("stop", _UNIT)
    assert await systemd.property(_UNIT, "Result") == "success"
    assert log.read_text().splitlines()[-1].endswith('"event":"Stopped"}')


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_one_that_hangs_is_replaced(
    systemd: Systemd, folder: Path, places: dict[str, str], command: str
) -> None:
    """A suspended process can't send heartbeats. One that other tests hold up can."""
    _install(systemd, folder, command, "WatchdogSec=2", "TimeoutAbortSec=1", "Nice=-10")
    await systemd.done("start", _UNIT)
    assert (await systemd.property(_UNIT, "StatusText")).startswith("http://localhost:")
    first = await systemd.property(_UNIT, "MainPID")
    heard: set[str] = set()

    async def sends_heartbeats() -> bool:
        heard.add(await systemd.property(_UNIT, "WatchdogTimestampMonotonic"))
        return len(heard) > 3

    await eventually(sends_heartbeats)
    (process,) = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(folder) and str(COMMAND) in process.info["cmdline"]
    ]
    process.suspend()

    async def is_replaced() -> bool:
        restarts = await systemd.property(_UNIT, "NRestarts")
        return (restarts, await systemd.property(_UNIT, "ActiveState")) == ("1", "active")

    await eventually(is_replaced)
    assert await systemd.property(_UNIT, "MainPID") != first
    await systemd.done("stop", _UNIT)
    assert await systemd.property(_UNIT, "Result") == "success"


async def test_settings_that_cannot_work_are_tried_once(systemd: Systemd, folder: Path) -> None:
    log = _install(systemd, folder, "serve --processes 2", "Environment=STREAM_BATCH_SIZE=often")
    status, _ = await systemd.systemctl("start", _UNIT)
    assert status == 1
    assert await systemd.property(_UNIT, "ActiveState") == "failed"
    assert await systemd.property(_UNIT, "NRestarts") == "0"
    assert "STREAM_BATCH_SIZE" in log.read_text()
