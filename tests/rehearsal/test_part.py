"""A part of a rehearsal is up again after each fault, also after one that was cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compose.local.binaries import find_redis
from compose.local.valkey import ValkeyServer
from lab.harness.waiting import StuckError
from lab.rehearsal.options import Options
from lab.rehearsal.part import Part
from lab.rehearsal.rehearse import Rehearsal
from lab.rehearsal.timeline import RehearsalTimeline
from persistence.fleet.log_choice import LogPair
from tests.support.eventually import eventually


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    async with ValkeyServer(tmp_path / "data", binary=find_redis()) as server:
        yield server


@pytest.mark.parametrize("by", ["fault", "roll"])
async def test_a_part_whose_orderly_stop_is_cancelled_is_started_again(
    server: ValkeyServer, by: str
) -> None:
    timeline = RehearsalTimeline()
    part = Part(server, "redis", timeline)
    await server.suspend()  # so that its stop lasts
    pid = part.pid
    timeline.mark(part.name, "up")

    async def fault() -> None:
        async with part.hurt("restart", None):
            pass

    stopping = asyncio.create_task(fault() if by == "fault" else part.stop())
    await eventually(lambda: timeline.state_of(part.name) == "down")
    stopping.cancel()
    await server.resume()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    if by == "roll":
        await part.raise_up(None)
    assert timeline.state_of(part.name) == "up"
    assert part.pid not in (None, pid)


class _Stuck(Rehearsal):
    """Ends while PostgreSQL is down, before a rate is chosen."""

    async def _plan(self, run: str):
        (postgres,) = (part for part in self.stage.servers if part.kind == "postgres")
        await postgres.stop()
        raise StuckError("nothing was acknowledged")


async def test_a_rehearsal_that_is_stuck_while_a_server_is_down_ends_with_a_report(
    tmp_path: Path,
) -> None:
    options = Options(
        seconds_per_phase=1.0,
        phases=(0,),
        ingresses=1,
        workers=0,
        pair=LogPair("redis", "redis@24"),
    )
    report = await _Stuck(tmp_path, options, lambda _: None).run()
    assert report.stopped == "no rate could be chosen: nothing was acknowledged"
    assert not report.passed
    assert set(report.verdict.values()) == {0}, report.findings
