"""Processes of ours that die, freeze or are drained (promises 1, 2, 3)."""

from __future__ import annotations

import asyncio
import itertools
import math
import time

import pytest

from lab.harness.history import Outcome
from tests.faults.database import drop_connections, inserts_held
from tests.faults.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService


def _waiting_at(ingress: ForkedService, deployment: Deployment, *, since: float) -> int:
    """Return the number of unanswered requests of ``ingress`` sent after ``since`` (monotonic).

    Earlier requests don't count: their answers may be on the way.
    """
    recent = itertools.takewhile(lambda a: a.sent > since, reversed(deployment.history.attempts))
    return sum(a.via == ingress.name and math.isinf(a.ended) for a in recent)


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "rolled-back"])
async def test_a_worker_killed_in_the_middle_of_a_batch(
    deployment: Deployment, committed: bool
) -> None:
    """Its batch is committed or rolled back after it is dead, and the position with it."""
    ingresses, (worker,) = await deployment.run()
    async with deployment.load(ingresses) as load:
        for _ in range(2):
            await load.goes_on(150)
            async with inserts_held(deployment.database_url) as held:
                await held.waiting()
                await worker.kill()
                if not committed:
                    await held.abort()
            await worker.start()
            await worker.owns_eventually(16)
        await load.goes_on(100)
    await deployment.assert_promises_held()


async def test_an_ingress_killed_in_the_middle_of_requests(deployment: Deployment) -> None:
    """Its appends are on their way to the log, and its clients never hear of them."""
    ingresses, _ = await deployment.run()
    async with deployment.load(ingresses) as load:
        for ingress in ingresses:
            await load.goes_on(150)
            await deployment.log.server.suspend()
            suspended = time.monotonic()
            await eventually(lambda: _waiting_at(ingress, deployment, since=suspended) >= 5)  # noqa: B023
            await ingress.kill()
            await deployment.log.server.resume()
            await load.goes_on(50)
            await ingress.start()
        await load.goes_on(100)
    assert deployment.history.count(Outcome.UNKNOWN) > 0
    await deployment.assert_promises_held()


async def test_everything_killed_at_once(deployment: Deployment) -> None:
    """One process that accepts and persists, as ``crossfade serve`` is by default."""
    (both,), _ = await deployment.run(ingresses=1, workers=0, ENABLE_STREAM_CONSUMERS="true")
    async with deployment.load([both]) as load:
        for _ in range(3):
            await load.goes_on(150)
            await both.kill()
            await both.start()
        await load.goes_on(100)
    await deployment.assert_promises_held()


async def test_processes_that_accept_and_persist_are_hurt_in_turn(deployment: Deployment) -> None:
    """Each hands its own appends to its workers from memory, and reads the other's appends."""
    (one, other), _ = await deployment.run(workers=0, ENABLE_STREAM_CONSUMERS="true")
    async with deployment.load([one, other]) as load:
        await one.owns_eventually(8)
        await other.owns_eventually(8)
        await load.goes_on(150)
        async with inserts_held(deployment.database_url) as held:
            await held.waiting(2)
            await one.kill()
        await one.start()
        await one.owns_eventually(8)
        await load.goes_on(150)
        async with inserts_held(deployment.database_url) as held:
            await held.waiting(2)
            await other.suspend()
        await one.owns_eventually(16)
        await load.goes_on(50)
        await other.resume()
        await other.owns_eventually(8)
        await load.goes_on(150)
        await drop_connections(deployment.database_url)
        await load.goes_on(100)
    await deployment.assert_promises_held()


async def test_a_worker_that_is_suspended_past_its_takeover_does_no_harm(
    deployment: Deployment,
) -> None:
    """It wakes in the middle of a batch, when the partition has another owner."""
    ingresses, (first, second) = await deployment.run(workers=2)
    async with deployment.load(ingresses) as load:
        await first.owns_eventually()
        await second.owns_eventually()
        for sleeper, other in ((first, second), (second, first)):
            await load.goes_on(100)
            async with inserts_held(deployment.database_url) as held:
                await held.waiting(2)
                await sleeper.suspend()
            await other.owns_eventually(16)
            await load.goes_on(100)
            await sleeper.resume()
            await sleeper.owns_eventually()
        await load.goes_on(100)
    await deployment.assert_promises_held()


async def test_workers_and_ingresses_replaced_one_by_one(deployment: Deployment) -> None:
    """A rolling restart by SIGTERM, as a deployment does it."""
    ingresses, workers = await deployment.run(workers=2)
    async with deployment.load(ingresses) as load:
        for service in (*ingresses, *workers):
            await load.goes_on(80)
            await service.restart()
        await load.goes_on(80)
    await deployment.assert_promises_held()


async def test_workers_come_and_go_under_load(deployment: Deployment) -> None:
    """Scale out from one to three and in again, in good order and by SIGKILL."""
    ingresses, (first,) = await deployment.run()
    async with (
        deployment.load(ingresses) as load,
        deployment.reader(ingresses, load.conversations[-8:]),
    ):
        await load.goes_on(80)
        second, third = deployment.worker(), deployment.worker()
        await asyncio.gather(second.start(), third.start())
        for worker in (first, second, third):
            await worker.owns_eventually(4)
        await load.goes_on(80)
        await first.stop()
        await load.goes_on(80)
        await second.kill()
        await third.owns_eventually(16)
        await load.goes_on(80)
    await deployment.assert_promises_held()
