"""A permanent mirror on a second Redis: the first machine goes with its disk, nothing is lost.

The settings and commands are those of "A mirror on a second machine" in docs/redis.md.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from compose.local.valkey import ValkeyServer
from lab.harness.load import Load
from tests.faults.deployment import Deployment
from tests.faults.logs import FaultyLog, RedisLog
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from transport.contract import WORKER_GROUP, Topic

NewRedis = Callable[..., Awaitable[ValkeyServer]]

MIRRORED = {"TRANSPORT": "redis", "TRANSPORT_SHADOW": "redis.b", "TRANSPORT_SHADOW_MODE": "sync"}
CHANGED_OVER = {"TRANSPORT": "redis.b", "TRANSPORT_SHADOW": "", "TRANSPORT_SHADOW_MODE": ""}


def _log(server: ValkeyServer) -> FaultyLog:
    return RedisLog(server)


async def _mirrored(
    deployment: Deployment, new_redis: NewRedis, *, workers: int
) -> tuple[ValkeyServer, list[ForkedService], list[ForkedService]]:
    """Start processes on both machines; return the second one, ingresses and workers."""
    mirror = await new_redis()
    address = {"LOG_B_REDIS_HOST": mirror.host, "LOG_B_REDIS_PORT": str(mirror.port)}
    settings: dict[str, Any] = {**MIRRORED, **address}
    return mirror, *await deployment.run(workers=workers, **settings)


async def _destroyed(deployment: Deployment, load: Load) -> None:
    """The machine and its disk are gone; clients have noticed."""
    await deployment.log.server.kill()
    shutil.rmtree(deployment.log.server.data_dir)
    refused = load.unanswered
    await eventually(lambda: load.unanswered > refused + 20)


async def _persisted(deployment: Deployment) -> None:
    """Return once all that stands in the log by now is: a mirror has nothing of before it."""
    log = await deployment.transport()
    ends = [part.end for part in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)]

    async def passed() -> bool:
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return all(
            not end or not part.lag or log.sort_key(part.floor or "0-0") >= log.sort_key(end)
            for part, end in zip(progress, ends, strict=True)
        )

    await eventually(passed)


async def _retire(deployment: Deployment, worker: ForkedService, folder: Path) -> None:
    """Record the first log as lost, and see that nobody looks for it or misses it any more."""

    async def orphaned() -> bool:
        return await worker.metric("stream_leftover", transport="redis") == 1

    await eventually(orphaned)
    command = await Crossfade.fork(
        "migrate", "retire", "redis", "--lost", "--why", "its machine burnt", "--yes",
        cwd=folder, **worker.environment,
    )  # fmt: skip
    assert await command.ends() == 0, command.text
    assert "retired: redis as lost; redis.b is written and read" in command.text

    async def is_well() -> bool:
        return await worker.metric("stream_leftover", transport="redis") == 0 and (
            await worker.metric("migration_unexpected_settings") == 0
        )

    await eventually(is_well)


async def test_a_machine_and_its_disk_are_destroyed_and_nothing_acknowledged_is_lost(
    deployment: Deployment, new_redis: NewRedis
) -> None:
    """The worker stands still before, so that what it has not read is in the mirror alone."""
    mirror, ingresses, (worker,) = await _mirrored(deployment, new_redis, workers=1)
    async with deployment.load(ingresses) as load:
        await load.goes_on(100)
        await worker.kill()
        await load.goes_on(150)
        await _destroyed(deployment, load)
        await asyncio.gather(*(it.restart(**CHANGED_OVER) for it in (*ingresses, worker)))
        await load.goes_on(100)
    deployment.log = _log(mirror)  # where the verdict is read
    final = await deployment.assert_promises_held()
    assert "redis.b" in {row.transport for row in final.rows}


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_machines_are_destroyed_one_after_another_while_processes_are_changed_one_by_one(
    deployment: Deployment, new_redis: NewRedis, tmp_path: Path
) -> None:
    """The log that is left gets a mirror of its own, from phase 0 to 2, and is destroyed too."""
    mirror, ingresses, workers = await _mirrored(deployment, new_redis, workers=2)
    every = (*ingresses, *workers)
    async with deployment.load(ingresses) as load:
        await load.goes_on(300)
        await _destroyed(deployment, load)
        for process in every:
            await process.restart(**CHANGED_OVER)
        await load.goes_on(300)
        await _retire(deployment, workers[0], tmp_path)
        deployment.log, third = _log(mirror), await new_redis()
        address = {"LOG_C_REDIS_HOST": third.host, "LOG_C_REDIS_PORT": str(third.port)}
        for mode in ("async", "sync"):
            shadow = {"TRANSPORT_SHADOW": "redis.c", "TRANSPORT_SHADOW_MODE": mode}
            for process in every:
                await process.restart(**shadow, **address)
            await load.goes_on(300)
        await _persisted(deployment)
        await _destroyed(deployment, load)
        changed = {**CHANGED_OVER, "TRANSPORT": "redis.c", "OTHER_LOGS": "redis.b"}
        for process in every:
            await process.restart(**changed)
        await load.goes_on(300)
    deployment.log = _log(third)
    final = await deployment.assert_promises_held()
    assert {row.transport for row in final.rows} == {"redis", "redis.b", "redis.c"}
