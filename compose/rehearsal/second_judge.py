"""The second checker: a Go program in ``judge/`` that reads the history's file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = ["SOURCE", "JudgeError", "Opinion", "SecondJudge"]

SOURCE = Path(__file__).with_name("judge")
"""Where the program's source is."""

_BUILD_SECONDS = 240
_JUDGE_SECONDS = 900
_BROKEN = 1


class JudgeError(Exception):
    """The judge can't be built here, or can't read a history."""


class Opinion(msgspec.Struct, kw_only=True):
    """The judge's verdict on a history."""

    sound: bool
    verdict: dict[str, int]
    """Violations, by class."""
    judged: dict[str, int] = {}
    """How many attempts, messages, rows and records it has read."""
    findings: list[dict[str, str]] = []
    """The first ones of each class: its class, where, and the facts."""
    seconds: float = 0.0


class SecondJudge:
    """The program, compiled. Go's standard library is all that it needs.

    Args:
        folder: Where the program goes.

    Raises:
        JudgeError: there is no Go here, or it can't compile the program.
    """

    def __init__(self, folder: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise JudgeError("there is no `go` on the PATH")
        self._program = folder / "judge"
        # Go keeps what it compiled in a cache of its own: a second build takes a moment.
        command = [go, "build", "-buildvcs=false", "-o", str(self._program), "."]
        _run(command, _BUILD_SECONDS, cwd=SOURCE)

    def judge(self, *histories: Path) -> list[Opinion]:
        """Return its opinion of each history.

        Raises:
            JudgeError: one can't be read.
        """
        command = [str(self._program), "-json", *map(str, histories)]
        said = _run(command, _JUDGE_SECONDS, fine=(0, _BROKEN))
        return msgspec.json.Decoder(Opinion).decode_lines(said)


def _run(
    command: Sequence[str], seconds: float, *, fine: Sequence[int] = (0,), cwd: Path | None = None
) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - a program of ours
            command, capture_output=True, text=True, check=False, timeout=seconds, cwd=cwd
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JudgeError(str(error)) from error
    if ended.returncode not in fine:
        raise JudgeError(ended.stderr.strip() or f"{command[0]} ended with {ended.returncode}")
    return ended.stdout
