"""A task that works in rounds outlives a defect, and says so once for each round that met it."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from otel.rounds import completed

_log = structlog.get_logger(__name__)


async def _defect() -> None:
    raise ZeroDivisionError("a defect")


async def test_a_defect_is_logged_with_its_traceback_and_the_next_round_comes():
    async def nothing() -> None: ...

    with capture_logs() as logs:
        ended = [await completed(work(), _log, "not read") for work in (_defect, nothing)]
    assert ended == [False, True]
    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("not read", True)]


async def test_a_cancelled_round_ends_the_task():
    task = asyncio.create_task(completed(asyncio.Event().wait(), _log, "not read"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
