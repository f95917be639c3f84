"""PostgreSQL's primary is killed under load, and a lagging standby is promoted.

No acknowledged message is lost, doubled or reordered: rows that the standby lacks are restored from
the log, before anything new.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from persistence.dead_letters.position import DEAD_LETTERS
from tests.faults.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.postgres_pair import DATABASE, PostgresPair, pair, run
from transport.contract import DLQ_GROUP, WORKER_GROUP, Topic, Transport


@pytest.fixture
async def servers(migrated_postgres: Path, tmp_path: Path) -> AsyncIterator[PostgresPair]:
    async with pair(migrated_postgres, tmp_path / "pair") as both:
        yield both


@pytest.mark.parametrize(
    "promotions",
    [1, pytest.param(20, marks=[pytest.mark.chaos, pytest.mark.timeout(1200)])],
)
async def test_rows_that_a_lagging_standby_lacks_come_back_in_order(
    deployment: Deployment, servers: PostgresPair, promotions: int
) -> None:
    deployment.database_url = servers.url
    ingresses, workers = await deployment.run(workers=2)
    gone = 0
    async with deployment.load(ingresses) as load:
        for number in range(promotions):
            await load.goes_on(60)
            await servers.cut()
            lacked = int(await run(servers.standby, "SELECT count(*) FROM messages"))
            await load.goes_on(60)

            async def more(least: int = lacked) -> bool:
                return await _rows(servers) > least

            await eventually(more)
            gone += await _rows(servers) - lacked
            if number % 2:
                await workers[number // 2 % 2].restart()
            await servers.primary.kill()
            await servers.promote()
            await load.goes_on(60)
            if number + 1 < promotions:
                await servers.follow()
    deployment.database_url = servers.standby.url_of(DATABASE)
    log = await deployment.transport()
    await eventually(partial(_has_all_settled, deployment, log))
    final = await deployment.assert_promises_held()
    assert {letter.reason for letter in final.letters} <= {"idempotency_conflict"}
    assert gone > 0


async def _has_all_settled(deployment: Deployment, log: Transport) -> bool:
    """Return whether PostgreSQL's positions are at the log's end: idle owners check theirs."""
    connection = await asyncpg.connect(deployment.database_url)
    try:
        found = await connection.fetch("SELECT partition, through FROM log_positions")
    finally:
        await connection.close()
    positions = {row["partition"]: row["through"] for row in found}
    messages = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    (letters,) = await log.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
    ends = {DEAD_LETTERS: letters.end} | {part.partition: part.end for part in messages}
    missing = {n: (positions.get(n), end) for n, end in ends.items() if end != positions.get(n)}
    assert not any(end for _, end in missing.values()), missing
    return True


async def _rows(servers: PostgresPair) -> int:
    return int(await run(servers.primary, "SELECT count(*) FROM messages"))
