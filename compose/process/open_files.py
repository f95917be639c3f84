"""The limit on open files and sockets of this process."""

from __future__ import annotations

import resource

__all__ = ["raise_limit"]


def raise_limit() -> None:
    """Raise the soft limit on open files to the hard limit.

    The usual soft limit of 1,024 protects programs that call select(2), and nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS allows less than the hard limit that it reports
            return
