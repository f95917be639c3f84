"""Migration from Redis with 16 partitions to Kafka with 32, under load (promises 1, 2, 3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from migration_guide.backfill.request import Request
from migration_guide.backfill.run import Backfill
from migration_guide.parity.check import check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import DIFFERENCES, ParityResult, Verdict
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.faults.both_logs import BothLogs, BothLogsDeployment
from tests.support.postgres_pair import DATABASE

NEW = "kafka@32"
ASYNC = {"TRANSPORT": "redis", "TRANSPORT_SHADOW": NEW, "TRANSPORT_SHADOW_MODE": "async"}
SYNC = {**ASYNC, "TRANSPORT_SHADOW_MODE": "sync"}
CONSUME = {**SYNC, "CONSUME_FROM": NEW}
LOGS = ("redis", NEW)
LOST = set(DIFFERENCES) - {ParityResult.ORDER_DIFFERS}


class GrowingDeployment(BothLogsDeployment):
    """A deployment whose records are settled when they are in Redis and in the larger Kafka."""

    async def settled(self, logs: tuple[str, ...] = LOGS) -> None:
        """Return once everything in both logs is acknowledged, dead letters too."""
        await super().settled(logs)


@pytest_asyncio.fixture
async def deployment(
    redis_log, kafka_log, postgres, tmp_path: Path
) -> AsyncIterator[GrowingDeployment]:
    logs = BothLogs(redis_log, kafka_log)
    url = postgres.url_of(DATABASE)
    async with GrowingDeployment.on(logs, postgres, url, tmp_path / "services") as made:
        yield made


async def test_sixteen_partitions_become_thirty_two_under_load(
    deployment: GrowingDeployment,
) -> None:
    ingresses, (worker,) = await deployment.run(**ASYNC)
    first, second = ingresses
    async with (
        deployment.load(ingresses) as load,
        deployment.reader(ingresses, load.conversations[-8:]),
    ):
        await load.goes_on(100)
        for step in (SYNC, CONSUME):
            await first.restart(**step)
            await load.goes_on(30)
            await asyncio.gather(second.restart(**step), worker.restart(**step))
            reached = time.time()
            if step is SYNC:
                await deployment.are_mirrored(other=NEW)
            # All messages from before the step are in both logs, and have rows.
            await deployment.catches_up(logs=LOGS)
            await load.goes_on(30)
    final = await deployment.assert_promises_held()
    assert {row.transport for row in final.rows} == set(LOGS)
    assert {row.partition >= 16 for row in final.rows if row.transport == NEW} == {True, False}
    redis, kafka = [await deployment.open(name) for name in LOGS]
    assert (redis.partitions, kafka.partitions) == (16, 32)
    limits = ParityLimits(settle=0.0)
    mirrored = (await check(redis, kafka, since=reached, mirrored=reached, limits=limits)).totals
    assert mirrored.verdict is Verdict.EQUAL
    # An asynchronous copy may be dropped, for example when a process stops. It is then recorded as
    # a gap, and a backfill appends it.
    whole = (await check(redis, kafka, limits=limits)).totals
    pool = await connect(PersistenceSettings(database_url=deployment.database_url))
    gaps = await pool.fetchval("SELECT coalesce(sum(records), 0)::int FROM shadow_gaps")
    assert whole.of(*LOST) <= gaps
    status = await Backfill(pool, redis, kafka, Request(rate=0, limits=limits)).run()
    await pool.close()
    assert status.appended == whole.of(ParityResult.MISSING_IN_SHADOW)
    whole = (await check(redis, kafka, limits=limits)).totals
    assert whole.of(*LOST) == 0
    assert whole.of(ParityResult.MATCHED) >= len(final.rows)
