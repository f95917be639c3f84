"""Entry point of the ``crossfade`` command, which Ctrl-C ends without a traceback at any time."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it; imports take most of a second, so Ctrl-C may hit them."""
    try:
        gc.disable()  # imports make a hundred thousand objects, and almost no garbage
        from compose.cli import main as command_line  # noqa: PLC0415

        gc.enable()
        command_line()
    except KeyboardInterrupt:
        sys.exit(130)
