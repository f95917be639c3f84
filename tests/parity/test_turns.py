"""A comparison runs beside requests: it has the processor for a moment at a time."""

from __future__ import annotations

import statistics

from migration_guide.parity.check import compared_groups
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult
from tests.parity.still_log import StillLog

RECORDS = 400
LARGE = "x" * 100_000
"""A record of so much takes a comparison half a millisecond."""


async def test_large_records_are_compared_a_few_at_a_time() -> None:
    logs = StillLog("redis"), StillLog("kafka")
    for number in range(RECORDS // 2):
        of = logs[0].put(number, float(number), content=LARGE)
        at = float(number)
        logs[1].put(number, at + 0.01, of=of, mode="sync", accepted=at, content=LARGE)
    (group,) = await compared_groups(*logs, since=None, limits=ParityLimits(settle=0.0))
    worked: list[float] = []

    async def pause(seconds: float) -> None:
        worked.append(seconds)

    assert await group.drain(pause=pause) == RECORDS
    group.close()
    (comparison,) = group.comparisons.values()
    assert comparison.totals.counts == {ParityResult.MATCHED: RECORDS // 2}
    # Processor seconds, so other processes don't matter; most, as a collection of garbage may come.
    assert len(worked) > RECORDS // 50
    assert statistics.median(worked) < 0.02
