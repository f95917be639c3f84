"""A program that is run to its end, and that ends with us if we end first, even by SIGKILL."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO

from compose.local import guard

__all__ = ["guarded_output"]

_GRACE_SECONDS = "5"


@contextmanager
def guarded_output(command: Sequence[str], folder: Path, *, seconds: float) -> Iterator[IO[str]]:
    """Run a program under ``compose.local.guard``; it has ended when the block is left.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        seconds: After which it is killed.

    Yields:
        What it says on both of its outputs.
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
        try:
            yield process.stderr
        finally:
            limit.cancel()
            process.stdin.close()
            process.wait()
