"""Programs that are run to their end: what they say is heard, and none outlives us."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from lab.specification.guarded import Ending, guarded_output
from tests.support.eventually import eventually

_ENDLESS = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _waits(pid: int) -> bool:
    """Return whether the process sleeps, as far as /proc tells."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "S"


def test_all_it_says_is_heard(tmp_path: Path) -> None:
    says = "import os, sys; print(os.getcwd()); print('beside', file=sys.stderr)"
    with guarded_output([sys.executable, "-u", "-c", says], tmp_path, seconds=60) as output:
        assert output.read().splitlines() == [str(tmp_path), "beside"]


def test_it_is_ended_with_the_block_and_when_its_time_is_up(tmp_path: Path) -> None:
    with guarded_output([sys.executable, "-c", _ENDLESS], tmp_path, seconds=600) as output:
        pid = int(output.readline())
        assert _alive(pid)
    assert not _alive(pid)
    with guarded_output([sys.executable, "-c", _ENDLESS], tmp_path, seconds=0.5) as output:
        assert len(output.read().splitlines()) <= 1


async def test_it_is_ended_from_another_thread_and_none_begins_then(tmp_path: Path) -> None:
    command, ending = [sys.executable, "-u", "-c", _ENDLESS], Ending()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def heard() -> str:
        with guarded_output(command, tmp_path, seconds=600, ending=ending) as output:
            first = output.readline()
            loop.call_soon_threadsafe(begun.set)
            return first + output.read()

    work = asyncio.create_task(asyncio.to_thread(heard))
    await begun.wait()
    ending.begin()
    assert not _alive(int(await work))
    assert len((await asyncio.to_thread(heard)).splitlines()) <= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_it_ends_when_the_process_that_runs_it_is_ended(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = textwrap.dedent(f"""
        import signal, sys
        from pathlib import Path
        from lab.specification.guarded import guarded_output
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job may ignore it
        command = [sys.executable, "-c", {_ENDLESS!r}]
        with guarded_output(command, Path({str(tmp_path)!r}), seconds=600) as output:
            print(output.readline(), flush=True)
            output.read()
    """)
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=PIPE, stderr=DEVNULL
    )
    assert owner.stdout
    pid = int(await owner.stdout.readline())
    # A signal that comes right before a read, and not in it, is handled only when the read returns.
    await eventually(lambda: _waits(owner.pid))
    owner.send_signal(number)
    await eventually(lambda: not _alive(pid))
    await owner.wait()
