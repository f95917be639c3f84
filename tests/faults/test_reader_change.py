"""The delay of rows while a migration step changes the log that the workers read.

``tests/persistence/test_follower.py`` tests the same with one follower and no processes.
"""

from __future__ import annotations

import asyncpg
import pytest

from lab.harness.load import Load
from tests.faults.both_logs import CONSUME, MIRROR, BothLogsDeployment, has_shares

LATE_SECONDS = 1.0
USUAL_MESSAGES = 200
MIXED_MESSAGES = 400
FOLLOWERS_MESSAGES = MIXED_MESSAGES // 20  # of fewer, the 95th percentile might tell nothing

LATENESS = """
SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - accepted_at))
FROM messages WHERE accepted_at > $1
"""

# Rows that came from a partition whose owner reads the other log first.
FOLLOWED = """
SELECT count(*) FROM messages
JOIN fences USING (transport, partition) JOIN processes ON member = owner
WHERE accepted_at > $1 AND consume_from <> messages.transport
"""


@pytest.mark.chaos
async def test_rows_come_in_time_while_workers_of_two_phases_share_both_logs(
    both_logs: BothLogsDeployment,
) -> None:
    """Each log has partitions that are a follower's; some conversations have only followers."""
    ingresses, (first, second) = await both_logs.run(workers=2, **CONSUME)
    await both_logs.are_mirrored(read="kafka", other="redis")

    async def lateness(load: Load, messages: int, *, mixed: bool) -> float:
        connection = await asyncpg.connect(both_logs.database_url)
        try:
            began = await connection.fetchval("SELECT now()")
            await load.goes_on(messages)
            await both_logs.catches_up()
            if mixed:
                assert await connection.fetchval(FOLLOWED, began) >= FOLLOWERS_MESSAGES
            return float(await connection.fetchval(LATENESS, began))
        finally:
            await connection.close()

    async with both_logs.load(ingresses) as load:
        await has_shares(first, second)
        usual = await lateness(load, USUAL_MESSAGES, mixed=False)
        await second.restart(**MIRROR, CONSUME_FROM="redis")
        await has_shares(first, second)
        late = await lateness(load, MIXED_MESSAGES, mixed=True)
    assert late < usual + LATE_SECONDS
    await both_logs.assert_promises_held()
