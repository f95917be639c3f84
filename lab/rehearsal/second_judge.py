"""Builds and runs the second checker: a Go program in ``judge/`` that reads the history's file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = ["SOURCE", "JudgeError", "Opinion", "SecondJudge"]

SOURCE = Path(__file__).with_name("judge")
"""The folder of the program's source."""

_BUILD_SECONDS = 240
_JUDGE_SECONDS = 900
_BROKEN = 1


class JudgeError(Exception):
    """The program can't be built on this machine, or can't read a history."""


class Opinion(msgspec.Struct, kw_only=True):
    """The second checker's verdict on a history."""

    sound: bool
    """Whether there are no violations."""
    verdict: dict[str, int]
    """Violations by class."""
    judged: dict[str, int] = {}
    """The numbers of attempts, messages, rows and records that it read."""
    findings: list[dict[str, str]] = []
    """The first violations of each class: ``class``, ``where`` and ``facts``."""
    seconds: float = 0.0


class SecondJudge:
    """The compiled program. It uses only Go's standard library.

    Args:
        folder: The folder for the compiled program.

    Raises:
        JudgeError: this machine has no Go, or Go can't compile the program.
    """

    def __init__(self, folder: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise JudgeError("there is no `go` on the PATH")
        self._program = folder / "judge"
        # Go caches compiled packages, so a second build takes a moment only.
        command = [go, "build", "-buildvcs=false", "-o", str(self._program), "."]
        _run(command, _BUILD_SECONDS, cwd=SOURCE)

    def judge(self, *histories: Path) -> list[Opinion]:
        """Return the verdict on each history.

        Raises:
            JudgeError: a history can't be read.
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
