"""Sabotage of the migration: the checker must find the damage of steps that it never takes.

Each sabotage also runs in its correct form on the same schedule, and the checker must find nothing.
"""

from __future__ import annotations

import asyncpg
import pytest

from lab.harness.anomaly import What
from lab.harness.checker import check
from lab.harness.final import gather
from lab.harness.load import PLAIN
from tests.faults.both_logs import CONSUME, MIRROR, REDIS, BothLogsDeployment
from transport.contract import WORKER_GROUP, Topic, Transport

# A shadow that gives up soon, so that a short outage makes it miss something.
HASTY = {
    "TRANSPORT_SHADOW_TIMEOUT_MS": "300",
    "TRANSPORT_SHADOW_QUEUE_RECORDS": "1",
    "TRANSPORT_SHADOW_FLUSH_MS": "0",
}
SHADOW = {
    **REDIS, "TRANSPORT_SHADOW": "kafka", "TRANSPORT_SHADOW_MODE": "async",
    "CONSUME_FROM": "redis", **HASTY,
}  # fmt: skip
TOO_EARLY = {**SHADOW, "CONSUME_FROM": "kafka"}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


async def found(both_logs: BothLogsDeployment, *logs: str) -> set[What]:
    """Return the kinds of anomaly that the checker finds once all is settled in ``logs``."""
    await both_logs.settled(logs=logs)
    return {
        anomaly.what for anomaly in check(both_logs.history, await gather(both_logs.database_url))
    }


async def pass_everything(log: Transport, database_url: str) -> None:
    """Move PostgreSQL's positions to the log's ends, as a follower that checks no row."""
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    ends = [(part.partition, part.end) for part in progress if part.end is not None]
    values = [(log.name, partition, end, await log.identity()) for partition, end in ends]
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "DELETE FROM log_positions WHERE transport = $1 AND partition = ANY($2::int[])",
                log.name,
                [partition for partition, _ in ends],
            )
            await connection.executemany(
                "INSERT INTO log_positions (transport, partition, epoch, through, log)"
                " VALUES ($1, $2, 0, $3, $4)",
                values,
            )
    finally:
        await connection.close()


@pytest.mark.parametrize("settings", [SHADOW, TOO_EARLY], ids=["right", "too early"])
async def test_consuming_the_shadow_while_it_may_miss_something_loses_nothing(
    both_logs: BothLogsDeployment, settings: dict[str, str]
) -> None:
    """Phase 1 with the readers of phase 3: what has no copy becomes a row from the primary."""
    ingresses, _ = await both_logs.run(**settings)
    kafka = both_logs.log.kafka.server
    async with both_logs.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(40)
        await kafka.suspend()
        try:
            await load.goes_on(150)
        finally:
            await kafka.resume()
        await load.goes_on(40)
    for ingress in ingresses:
        await ingress.stop()
    harm = await found(both_logs, "redis", "kafka")
    assert harm <= (set() if settings is SHADOW else {What.REORDERED})


@pytest.mark.parametrize("asks", [True, False], ids=["right", "blind"])
async def test_a_follower_that_passes_what_is_not_settled(
    both_logs: BothLogsDeployment, *, asks: bool
) -> None:
    """The next reader starts behind records without rows, which are persisted too late."""
    ingresses, (worker,) = await both_logs.run(**MIRROR)
    await both_logs.are_mirrored()
    async with both_logs.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(40)
        await both_logs.catches_up()  # below the mark
        await worker.stop()
        await load.goes_on(60)
        if not asks:
            await pass_everything(await both_logs.open("kafka"), both_logs.database_url)
        await worker.start(**CONSUME)
        await load.goes_on(150)
    harm = await found(both_logs, "redis", "kafka")
    assert harm == (set() if asks else {What.REORDERED})


@pytest.mark.parametrize("marked", [True, False], ids=["right", "no mark"])
async def test_reading_the_new_log_without_a_mark(
    both_logs: BothLogsDeployment, *, marked: bool
) -> None:
    """Messages that phase 1 left out of the shadow have no rows yet when the readers change."""
    ingresses, (worker,) = await both_logs.run(**SHADOW)
    kafka = both_logs.log.kafka.server
    async with both_logs.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(40)
        await worker.stop()
        await kafka.suspend()
        try:
            await load.goes_on(100)
        finally:
            await kafka.resume()
        for ingress in ingresses:
            await ingress.restart(**MIRROR)
        await both_logs.are_mirrored(marked=marked)
        await worker.start(**CONSUME)
        await load.goes_on(150)
    harm = await found(both_logs, "redis", "kafka")
    assert harm == (set() if marked else {What.REORDERED})
