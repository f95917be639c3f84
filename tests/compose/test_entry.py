"""Ctrl-C before the command itself runs: while Python imports what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_COMMAND = """
import os, subprocess, sys
from pathlib import Path

def main():
    print("to nobody")
    print("nor this", file=sys.stderr, flush=True)
    Path("open").write_text(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3)))
    subprocess.run([sys.executable, "-c", "import os; [os.fstat(n) for n in range(3)]"], check=True)
"""
_INTERRUPTED = "import os, signal; os.kill(os.getpid(), signal.SIGINT); import nothing_of_that_name"


@pytest.mark.parametrize(
    ("imported", "command"),
    [("typer", "--version"), ("asyncpg", "status"), ("alembic", "up")],
    ids=["the command line", "a command", "in a command"],
)
def test_ctrl_c_while_modules_are_imported_says_nothing(
    tmp_path: Path, imported: str, command: str
) -> None:
    (tmp_path / f"{imported}.py").write_text(_INTERRUPTED)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["crossfade"].partition(":")
    ended = subprocess.run(
        [sys.executable, "-c", f"from {module} import {function}; {function}()", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_standard_streams_that_the_caller_closed_are_opened(tmp_path: Path) -> None:
    """A connection would get their numbers, and libuv aborts when it closes one of those."""
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose" / "__init__.py").touch()
    (tmp_path / "compose" / "entry.py").write_text((ROOT / "compose" / "entry.py").read_text())
    (tmp_path / "compose" / "cli.py").write_text(_COMMAND)
    script = "import sys; from compose.entry import main; main()"
    closed = 'exec "$0" -c "$1" <&- >&- 2>&-'
    subprocess.run(
        ["sh", "-c", closed, sys.executable, script],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True, timeout=60,
    )  # fmt: skip
    assert (tmp_path / "open").read_text().split() == ["/dev/null"] * 3
