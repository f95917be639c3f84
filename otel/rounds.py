"""Rounds of work that a process repeats for as long as it lives."""

from __future__ import annotations

from collections.abc import Awaitable

from structlog.typing import FilteringBoundLogger

__all__ = ["completed"]


async def completed(work: Awaitable[object], log: FilteringBoundLogger, event: str) -> bool:
    """Await one round of ``work``, and return whether it ended without an error.

    A round handles the failures of its servers itself. Any other exception is a defect: it is
    logged as ``event``, with its traceback, and the caller begins the next round. Otherwise one
    defect would end the task for the life of the process, and nobody awaits it: its figures would
    silently stay as they were.

    A cancellation is raised.
    """
    try:
        await work
    except Exception:
        log.exception(event)
        return False
    return True
