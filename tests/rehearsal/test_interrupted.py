"""A rehearsal that a signal ends: it writes what it knows, and leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import textwrap
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.eventually import eventually
from tests.support.requirements import absent

_MARK = "REHEARSAL_OF_THE_TEST"
_PROGRAM = textwrap.dedent("""
    import sys
    from pathlib import Path
    from compose.output import run
    from lab.rehearsal.options import Options
    from lab.rehearsal.session import rehearse
    from persistence.fleet.log_choice import LogPair
    options = Options(
        seconds_per_phase=float(sys.argv[2]),
        rate=float(sys.argv[3]) or None,
        phases=(0,),
        conversations=12,
        crowded=2,
        ingresses=int(sys.argv[4]),
        workers=0,
        pair=LogPair("redis", "redis@24"),
        replayed_conversations=12,
    )
    sys.exit(run(lambda: rehearse(options, Path(sys.argv[1]))))
""")


class _Run:
    """A rehearsal in a process of its own, and all that it started."""

    def __init__(self, process: Process, mark: str, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._mark = f"{_MARK}={mark}".encode()

    async def says(self, text: str) -> str:
        """Return the next line that it says and that has this text."""
        assert self.process.stderr
        async for line in self.process.stderr:
            if text in line.decode():
                return line.decode()
        pytest.fail(f"it ended and never said {text!r}")

    def report(self) -> dict[str, Any]:
        return msgspec.json.decode((self.folder / "report.json").read_bytes())

    def left(self) -> list[int]:
        """Return the processes that live and have the mark in their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def running(self, program: str) -> list[int]:
        """Return the processes of ``left`` that run this, by the end of their command line."""
        return [
            pid
            for pid in self.left()
            if Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").endswith(f"{program} ")
        ]


@asynccontextmanager
async def _rehearsal(
    folder: Path, seconds: float, rate: float = 40.0, ingresses: int = 1
) -> AsyncIterator[_Run]:
    mark = uuid.uuid4().hex
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, str(folder), str(seconds), str(rate), str(ingresses)),
        env={**os.environ, _MARK: mark},
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,
    )
    run = _Run(process, mark, folder)
    try:
        yield run
    finally:
        for pid in run.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.communicate()


pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
]


async def test_what_was_sent_until_then_is_judged(tmp_path: Path) -> None:
    async with _rehearsal(tmp_path / "report", seconds=600) as run:
        await run.says("phase 0")
        assert len(run.left()) > 5
        os.killpg(run.process.pid, signal.SIGTERM)  # as a terminal does
        await run.process.communicate()
        assert run.process.returncode == 130
        assert run.left() == []
        report = run.report()
        assert report["stopped"] == "interrupted in phase 0"
        assert not report["passed"]
        assert set(report["verdict"].values()) == {0}, report["findings"][:3]
        assert report["notReplayed"] == "the rehearsal was interrupted"
        assert (run.folder / "history.jsonl").stat().st_size > 0


async def test_the_verdict_is_written_before_the_replay_which_a_signal_ends(tmp_path: Path) -> None:
    """It also chooses its rate, as one does that is given none."""
    async with _rehearsal(tmp_path / "report", seconds=3, rate=0) as run:
        await run.says("replaying")
        judged = run.report()
        assert judged["passed"], (judged["stopped"], judged["findings"][:3])
        assert judged["options"]["rate"] >= 10
        assert judged["totals"]["messages"] > 50
        assert judged["overall"]["posts"] < judged["totals"]["messages"], "the trial counts"
        assert judged["notReplayed"] == "the replay did not end"
        run.process.send_signal(signal.SIGINT)
        await run.process.communicate()
        assert run.left() == []
        report = run.report()
        if run.process.returncode == 0:
            absent(f"a replay that a signal ends: {report['notReplayed']}")
        assert run.process.returncode == 130
        assert report["verdict"] == judged["verdict"]
        assert report["replayed"]["undecided"]
        assert not report["replayed"]["refused"]


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_process_is_left_however_early_it_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with _rehearsal(tmp_path / "report", seconds=600) as run:
        await run.says("starting the servers")
        await eventually(lambda: len(run.left()) > 3)
        run.process.send_signal(number)
        await run.process.wait()
        await eventually(lambda: not run.left())
        assert not run.folder.exists()


async def test_the_load_ends_soon_after_a_rehearsal_that_was_killed(tmp_path: Path) -> None:
    async with _rehearsal(tmp_path / "report", seconds=600) as run:
        await run.says("phase 0")
        run.process.kill()
        await run.process.wait()
        await eventually(lambda: not run.left())


async def test_a_load_that_is_killed_ends_the_walk_and_not_the_report(tmp_path: Path) -> None:
    async with _rehearsal(tmp_path / "report", seconds=1) as run:
        await run.says("phase 0")
        (load,) = await eventually(lambda: run.running("-m lab.harness"))
        os.kill(load, signal.SIGKILL)
        await run.process.communicate()
        assert run.process.returncode == 1
        report = run.report()
        assert "load's process was ended by SIGKILL" in report["stopped"]
        assert not report["passed"]
        assert not report["verdict"]["lost"], report["findings"][:3]
        assert run.left() == []


@pytest.mark.chaos
async def test_a_report_that_can_not_be_written_hides_no_verdict(tmp_path: Path) -> None:
    async with _rehearsal(tmp_path / "report", seconds=1) as run:
        await run.says("phase 0")
        run.folder.rmdir()
        run.folder.write_text("in the way")
        await run.says("the report can't be written")
        kept = await run.says("kept in")
        assert (Path(kept.split()[-1]) / "history.jsonl").stat().st_size > 0
        shutil.rmtree(kept.split()[-1])
        await run.process.communicate()
        assert run.process.returncode == 1


@pytest.mark.chaos
async def test_a_process_that_ends_by_itself_is_a_violation(tmp_path: Path) -> None:
    """The others do its work, so nothing else shows it."""
    async with _rehearsal(tmp_path / "report", seconds=3, ingresses=2) as run:
        await run.says("phase 0")
        os.kill(run.running("compose.cli import main; main() serve")[0], signal.SIGKILL)
        await run.process.communicate()
        assert run.process.returncode == 1
        report = run.report()
        (finding,) = report["findings"]
        assert finding["where"].startswith("ingress-")
        assert finding["facts"] == "its process ended, and no fault had ended it"
        assert report["second"]["agrees"] or report["second"]["missing"]
