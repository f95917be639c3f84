"""Processes whose clocks are hours apart, and set while they work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.faults.deployment import Deployment
from tests.support.stepped_clock import SteppedClock

HOUR = 3600


async def test_processes_two_hours_apart_lose_double_and_reorder_nothing(
    deployment: Deployment, tmp_path: Path
) -> None:
    """An ingress an hour ahead, one an hour behind; workers too, and each is set under load."""
    clocks = [SteppedClock(tmp_path / f"clock-{n}") for n in range(4)]
    for clock, hours in zip(clocks, (1, -1, -1, 1), strict=True):
        clock.step(hours * HOUR)
    ahead, behind = (deployment.ingress(**clock.environment()) for clock in clocks[:2])
    workers = [deployment.worker(**clock.environment()) for clock in clocks[2:]]
    await asyncio.gather(*(service.start() for service in (ahead, behind, *workers)))
    async with deployment.load([ahead, behind]) as load:
        await load.goes_on(60)
        for clock, hours in zip(clocks, (-1, 1, 1, -1), strict=True):
            clock.step(hours * HOUR)
        await workers[0].kill()
        await load.goes_on(60)
        await workers[0].start()
        await workers[0].owns_eventually(4)
        await load.goes_on(30)
    await deployment.assert_promises_held()
    async with httpx.AsyncClient() as client:
        ready = (await client.get(f"{ahead.url}/readyz")).json()
    assert ready["status"] == "ready", ready
