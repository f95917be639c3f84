"""How late rows are while a step changes which log the workers read.

With one standby and no processes: ``tests/persistence/test_standby_beside_readers.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.faults.both_logs import CONSUME, MIRROR, BothLogs, BothLogsDeployment
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

TAKEOVER = "stream_standby_takeover_total"
LATE_SECONDS = 1.0
MIXED_MESSAGES = 400

LATENESS = """
SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - accepted_at))
FROM messages WHERE accepted_at > $1
"""


@pytest_asyncio.fixture
async def deployment(
    redis_log, kafka_log, postgres, tmp_path: Path
) -> AsyncIterator[BothLogsDeployment]:
    logs = BothLogs(redis_log, kafka_log)
    url = postgres.url_of("faults")
    async with BothLogsDeployment.on(logs, postgres, url, tmp_path / "services") as made:
        yield made


@pytest.mark.chaos
async def test_rows_come_in_time_while_workers_of_two_phases_share_both_logs(
    deployment: BothLogsDeployment,
) -> None:
    """Each log has partitions that are a standby's; some conversations have only standbys."""
    ingresses, (first, second) = await deployment.run(workers=2, **CONSUME)
    async with deployment.load(ingresses) as load:
        await load.goes_on(100)
        await second.restart(**MIRROR, CONSUME_FROM="redis")
        for worker in (first, second):
            await _has_shares(worker)
        connection = await asyncpg.connect(deployment.database_url)
        try:
            began = await connection.fetchval("SELECT now()")
            await load.goes_on(MIXED_MESSAGES)
            await deployment.catches_up()
            late = float(await connection.fetchval(LATENESS, began))
        finally:
            await connection.close()
    assert await first.metric(TAKEOVER, transport="redis") > 0, "no conversation had standbys only"
    assert late < LATE_SECONDS
    await deployment.assert_promises_held()


async def _has_shares(worker: ForkedService) -> None:
    async def it_has() -> bool:
        owned = [
            await worker.metric("stream_partition_owned", transport=log)
            for log in ("redis", "kafka")
        ]
        return min(owned) >= 4

    await eventually(it_has, timeout=30, every=0.2)
