"""The limit of files and sockets that this process has open."""

from __future__ import annotations

import resource

__all__ = ["raise_limit"]


def raise_limit() -> None:
    """Raise the limit of open files as far as this process may.

    The usual 1,024 are for programs that call select(2), which nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a lower limit than it names
            return
