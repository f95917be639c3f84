"""Runs a program to its end; the program ends too if our process ends first, even by SIGKILL."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Timer
from typing import IO

from compose.local import guard

__all__ = ["Ending", "guarded_output"]

_GRACE_SECONDS = "5"


class Ending:
    """Ends the programs that other threads run; may be called from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._begun = False
        self._ends: list[Callable[[], None]] = []

    def begin(self) -> None:
        """End the running programs, and each program that is started from now on."""
        with self._lock:
            self._begun = True
            ends, self._ends = self._ends, []
        for end in ends:
            end()

    def add(self, end: Callable[[], None]) -> None:
        """Register ``end``, which ``begin`` calls once; call it now if ``begin`` was called."""
        with self._lock:
            if not self._begun:
                self._ends.append(end)
                return
        end()


@contextmanager
def guarded_output(
    command: Sequence[str], folder: Path, *, seconds: float, ending: Ending | None = None
) -> Iterator[IO[str]]:
    """Run a program under ``compose.local.guard``; leaving the block ends the program.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        seconds: Time limit; after it the program is killed.
        ending: Can kill the program earlier.

    Yields:
        The program's standard output and standard error, as one stream.
    """
    with (
        tempfile.TemporaryFile() as unlocked,  # a guard holds a lock; nothing is to be kept here
        subprocess.Popen(
            # -I -S: nothing but the standard library, whatever the caller's environment is.
            [
                sys.executable, "-I", "-S", guard.__file__, "SIGKILL", _GRACE_SECONDS,
                str(unlocked.fileno()), "-", "--", *command,
            ],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=[unlocked.fileno()],
        ) as process,
    ):  # fmt: skip
        assert process.stdin
        assert process.stderr
        limit = Timer(seconds, process.stdin.close)
        limit.daemon = True
        limit.start()
        if ending is not None:
            ending.add(process.stdin.close)
        try:
            yield process.stderr
        finally:
            limit.cancel()
            process.stdin.close()
            process.wait()
