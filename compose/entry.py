"""Entry point of the ``crossfade`` command, which Ctrl-C ends without a traceback at any time."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it; imports take most of a second, so Ctrl-C may hit them."""
    try:
        _open_standard_streams()
        gc.disable()  # imports make a hundred thousand objects, and almost no garbage
        from compose.cli import main as command_line  # noqa: PLC0415

        gc.enable()
        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


def _open_standard_streams() -> None:
    """Open /dev/null in place of each standard stream that the caller closed.

    A socket would get its number otherwise, and libuv aborts the process when it closes that.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
