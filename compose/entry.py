"""Entry point of the ``crossfade`` command: Ctrl-C ends it without a traceback, at any time."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it. Imports take most of a second, so they count too."""
    try:
        gc.disable()  # imports make a hundred thousand objects, and next to no garbage
        from compose.cli import main as command_line  # noqa: PLC0415

        gc.enable()
        command_line()
    except KeyboardInterrupt:
        sys.exit(130)
