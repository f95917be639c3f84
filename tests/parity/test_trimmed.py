"""Logs are trimmed while they are compared: what went unread is never called missing."""

from __future__ import annotations

import pytest

from migration_guide.parity.check import check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.follower import Follower
from migration_guide.parity.reading import PAGE
from migration_guide.parity.result import ParityResult, Verdict
from tests.parity.mirroring import send
from tests.parity.still_log import StillLog
from transport.contract import Topic

LENGTH, LEFT = 3000, 900
AT_ONCE = ParityLimits(settle=0.0)


class Shrinking(StillLog):
    """It loses its first records once a page of it was read, as if its workers had come by."""

    trims_to: int | None = None

    async def read(self, topic, partition, *, after=None, limit=1000, wait=0.0):
        page = await super().read(topic, partition, after=after, limit=limit, wait=wait)
        if self.trims_to is not None and limit > 1:
            self.drop(partition, *self.offsets[partition][: -self.trims_to or None])
        return page


def pair(
    trimmed: str, *, left: int, lost: int | None = None, alone: int | None = None
) -> tuple[Shrinking, Shrinking]:
    """Two logs, of which one is trimmed; of ``lost`` no copy was made, ``alone`` is only a copy."""
    logs = Shrinking("redis"), Shrinking("kafka")
    for number in range(LENGTH):
        of = logs[0].put(number, number * 0.1)
        if number != lost:
            logs[1].put(number, number * 0.1 + 0.01, of=of, mode="sync", accepted=number * 0.1)
    if alone is not None:
        logs[0].drop(0, alone)
    (log,) = (log for log in logs if log.name == trimmed)
    log.trims_to = left
    return logs


@pytest.mark.parametrize("trimmed", ["redis", "kafka"])
@pytest.mark.parametrize("left", [LEFT, 0], ids=["some-left", "nothing-left"])
async def test_what_was_trimmed_before_it_was_read_is_not_missing(trimmed: str, left: int) -> None:
    report = await check(*pair(trimmed, left=left), limits=AT_ONCE)
    found = report.totals.counts
    assert not found.get(ParityResult.MISSING_IN_PRIMARY)
    assert not found.get(ParityResult.MISSING_IN_SHADOW)
    # The first page, which was read before it went, and what is still there.
    assert found[ParityResult.MATCHED] == PAGE + left
    assert report.totals.verdict is Verdict.EQUAL


async def test_what_the_trimmed_log_lacks_of_the_time_that_it_holds_is_missing() -> None:
    report = await check(*pair("kafka", left=LEFT, lost=LENGTH - 5), limits=AT_ONCE)
    assert [s.primary_offset for s in report.samples] == [str(LENGTH - 5)]
    assert report.totals.counts[ParityResult.MISSING_IN_SHADOW] == 1
    report = await check(*pair("redis", left=LEFT, alone=LENGTH - 5), limits=AT_ONCE)
    assert [s.shadow_offset for s in report.samples] == [str(LENGTH - 5)]
    assert report.totals.counts[ParityResult.MISSING_IN_PRIMARY] == 1


async def test_a_partition_that_never_held_anything_was_not_trimmed() -> None:
    logs = StillLog("redis", 2), StillLog("kafka", 2)
    for number in range(20):
        of = logs[0].put(number, float(number), partition=number % 2)
        if number % 2 == 0:
            logs[1].put(number, number + 0.01, of=of, mode="sync", accepted=float(number))
    report = await check(*logs, limits=AT_ONCE)
    assert report.totals.counts == {ParityResult.MATCHED: 10, ParityResult.MISSING_IN_SHADOW: 10}


async def test_who_follows_goes_on_after_a_log_was_emptied() -> None:
    redis, kafka = pair("redis", left=0)
    follower = Follower(redis, kafka, limits=AT_ONCE)
    await follower.start()
    try:
        await follower.round()
        assert not follower.report().totals.counts.get(ParityResult.MISSING_IN_PRIMARY)
        redis.trims_to = None
        for number in range(LENGTH, LENGTH + 10):
            at = number * 0.1
            of = redis.put(number, at, offset=number)
            if number != LENGTH + 4:
                kafka.put(number, at + 0.01, of=of, mode="sync", accepted=at)
        before = follower.report().totals.counts[ParityResult.MATCHED]
        await follower.round()
        found = follower.report().totals.counts
        assert found[ParityResult.MATCHED] - before == 9
        # The time at which the log was emptied is unknown; from its first record on it holds all.
        assert found[ParityResult.MISSING_IN_SHADOW] == 1
        assert not found.get(ParityResult.MISSING_IN_PRIMARY)
    finally:
        follower.close()


async def test_a_real_stream_trimmed_under_the_comparison(
    redis_log, kafka_log, redis_client
) -> None:
    await send(redis_log, kafka_log, range(400))
    read, left = redis_log.read, 9

    async def read_and_trim(topic, partition, *, after=None, limit=1000):
        page = await read(topic, partition, after=after, limit=min(limit, 10))
        if topic is Topic.MESSAGES and limit > 1:
            await redis_client.xtrim(f"msg:stream:{partition}", maxlen=left, approximate=False)
        return page

    redis_log.read = read_and_trim
    report = await check(redis_log, kafka_log, limits=AT_ONCE)
    assert not report.totals.of(ParityResult.MISSING_IN_PRIMARY, ParityResult.MISSING_IN_SHADOW)
    sent = [
        part.totals.compared + part.totals.of(ParityResult.TRIMMED) > 0
        for part in report.partitions
    ]
    matched = [part.totals.of(ParityResult.MATCHED) for part in report.partitions]
    assert matched == [(10 + left) * used for used in sent]
    assert any(sent)
