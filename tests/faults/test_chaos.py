"""Faults at random, one after another, for minutes: ``make chaos``.

``CHAOS_MINUTES`` says how long (2), ``CHAOS_SEED`` which faults in which order: the seed of a run
that failed is in its output, and gives the same faults again, though not at the same instants.
"""

# ruff: noqa: T201 - pytest shows what was printed when it fails: the seed, and the faults so far

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from lab.harness.load import Load
from tests.faults.database import crash, drop_connections, inserts_held
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.forked_service import ForkedService

MINUTES = float(os.environ.get("CHAOS_MINUTES", "2"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

Fault = Callable[[], Awaitable[None]]


class Chaos:
    """The faults, each of which leaves everything running again."""

    def __init__(
        self,
        deployment: Deployment,
        ingresses: list[ForkedService],
        workers: list[ForkedService],
        dice: random.Random,
    ) -> None:
        self._deployment = deployment
        self._ingresses = ingresses
        self._workers = workers
        self._dice = dice

    def all(self) -> list[Fault]:
        """Return every fault."""
        faults = [
            self.kill_worker,
            self.kill_worker_in_a_batch,
            self.suspend_worker,
            self.restart_worker,
            self.kill_ingress,
            self.restart_ingress,
            self.change_canary,
            self.stop_log,
            self.kill_log,
            self.suspend_log,
            self.stop_database,
            self.crash_database,
            self.suspend_database,
            self.cut_database,
        ]
        if isinstance(self._deployment.log, RedisLog):
            faults.append(self.cut_log)
        return faults

    async def kill_worker(self) -> None:
        worker = self._dice.choice(self._workers)
        await worker.kill()
        await self._while()
        await worker.start()

    async def kill_worker_in_a_batch(self) -> None:
        worker = self._dice.choice(self._workers)
        async with inserts_held(self._deployment.database_url) as held:
            await held.waiting()
            await worker.kill()
            if self._dice.random() < 0.5:
                await held.abort()
        await worker.start()

    async def suspend_worker(self) -> None:
        worker = self._dice.choice(self._workers)
        await worker.suspend()
        await self._while()
        await worker.resume()

    async def restart_worker(self) -> None:
        await self._dice.choice(self._workers).restart()

    async def kill_ingress(self) -> None:
        ingress = self._dice.choice(self._ingresses)
        await ingress.kill()
        await self._while()
        await ingress.start()

    async def restart_ingress(self) -> None:
        await self._dice.choice(self._ingresses).restart()

    async def change_canary(self) -> None:
        percent = str(self._dice.choice([0, 10, 50, 100]))
        for ingress in self._ingresses:
            await ingress.restart(INGRESS_QUEUE_PERCENT=percent)

    async def stop_log(self) -> None:
        await self._deployment.log.server.stop()
        await self._while()
        await self._deployment.log.server.start()

    async def kill_log(self) -> None:
        await self._deployment.log.server.kill()
        await self._while()
        await self._deployment.log.server.start()

    async def suspend_log(self) -> None:
        await self._deployment.log.server.suspend()
        await self._while()
        await self._deployment.log.server.resume()

    async def cut_log(self) -> None:
        log = self._deployment.log
        assert isinstance(log, RedisLog)
        await log.drop_connections()

    async def stop_database(self) -> None:
        await self._deployment.postgres.stop()
        await self._while()
        await self._deployment.postgres.start()

    async def crash_database(self) -> None:
        await crash(self._deployment.postgres)
        await self._while()
        await self._deployment.postgres.start()

    async def suspend_database(self) -> None:
        await self._deployment.postgres.suspend()
        await self._while()
        await self._deployment.postgres.resume()

    async def cut_database(self) -> None:
        await drop_connections(self._deployment.database_url)

    async def _while(self) -> None:
        """Let the fault last: sometimes until a takeover. Its length is the test."""
        await asyncio.sleep(self._dice.uniform(0.0, 3.0))


@pytest.mark.chaos
@pytest.mark.timeout(MINUTES * 60 + 300)
async def test_nothing_acknowledged_is_lost_doubled_or_reordered_by_chaos(
    deployment: Deployment,
) -> None:
    dice = random.Random(SEED)
    done: list[str] = []
    print(f"CHAOS_SEED={SEED}")
    ingresses, workers = await deployment.run(ingresses=2, workers=2)
    chaos = Chaos(deployment, ingresses, workers, dice)
    deadline = time.monotonic() + MINUTES * 60
    async with (
        deployment.load(ingresses) as load,
        deployment.reader(ingresses, load.conversations[-8:]),
    ):
        while time.monotonic() < deadline:
            await _one(dice.choice(chaos.all()), load, done)
    print(f"{deployment.history}; faults: {', '.join(done)}")
    await deployment.assert_promises_held()


async def _one(fault: Fault, load: Load, done: list[str]) -> None:
    done.append(fault.__name__)
    try:
        await fault()
        await load.goes_on(40)
    except BaseException:
        print(f"during {done[-1]}, after {', '.join(done[:-1])}")
        raise
