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
