"""The watermark: what was appended before a change has been read."""

from __future__ import annotations

import pytest

from migration_guide.phases import STEPS
from tests.migration.gate_inputs import ReportedProgress, acknowledge, ask
from tests.persistence.samples import message
from tests.support.mirrors import append, mirror
from transport.contract import WORKER_GROUP, Topic


async def test_watermark(scene, logs):
    """Red until the log that is read is acknowledged through where it ended; unknown without."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    ends = {
        str(part.partition): part.end
        for part in await redis.progress(Topic.MESSAGES, group=WORKER_GROUP)
    }
    unknown = await ask(await scene(2, 3), "watermark")
    assert (unknown.verdict, "migrate watch" in (unknown.remedy or "")) == ("unknown", True)
    below = await ask(await scene(2, 3, watermark={"redis": ends}), "watermark")
    assert (below.verdict, "is persisted through None" in below.reason) == ("red", True)
    assert below.remedy is None, "the workers turn it green"
    await acknowledge(redis)
    await append(redis, message("later"))
    assert (await ask(await scene(2, 3, watermark={"redis": ends}), "watermark")).verdict == "green"


@pytest.mark.parametrize(("through", "verdict"), [(2, "red"), (3, "green"), (4, "green")])
async def test_the_watermark_is_met_where_the_readers_are_through_it(scene, logs, through, verdict):
    """Not where they have merely begun, and no later either: traffic goes on."""
    redis = logs["redis"]
    offsets = await append(redis, *(message(f"m{i}", "c") for i in range(6)))
    (stands,) = [
        part for part in await redis.progress(Topic.MESSAGES, group=WORKER_GROUP) if part.lag
    ]
    async with redis.consume(Topic.MESSAGES, group=WORKER_GROUP, member="reader") as consumer:
        async for claim in consumer.claims():
            if claim.partition == stands.partition:
                await claim.next(max_records=6, max_wait=5)
                await claim.ack(offsets[through])
                break
    marks = {"redis": {str(stands.partition): offsets[3]}}
    assert (await ask(await scene(2, 3, watermark=marks), "watermark")).verdict == verdict


async def test_phase_3_waits_for_what_phase_5_left_out_of_redis(scene, logs):
    """There a standby of Redis may persist, and must find no hole before what it persists."""
    assert all("watermark" in step.gates for step in STEPS if step.to == 3)
    kafka, redis = logs["kafka"], logs["redis"]
    await append(kafka, message("of phase 5", "c"))
    ends = {
        str(part.partition): part.end
        for part in await kafka.progress(Topic.MESSAGES, group=WORKER_GROUP)
    }
    await mirror(kafka, redis, message("after it", "c"))
    back = await ask(await scene(4, 3, watermark={"kafka": ends}), "watermark")
    assert back.verdict == "red"
    await acknowledge(kafka)
    back = await ask(await scene(4, 3, watermark={"kafka": ends}), "watermark")
    assert back.verdict == "green"


async def test_the_watermark_of_a_log_that_lost_records_is_left_to_the_operator(scene, logs):
    """Its offsets may be those of later records by now, and nothing below it need be a row."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    progress = await redis.progress(Topic.MESSAGES, group=WORKER_GROUP)
    ends = {str(part.partition): part.end for part in progress}
    await acknowledge(redis)
    asked = await scene(2, 3, watermark={"redis": ends})
    assert (await ask(asked, "watermark")).verdict == "green"
    asked.logs["redis"] = ReportedProgress(redis, lost=2)
    result = await ask(asked, "watermark")
    assert (result.verdict, "redis once lost 8 records" in result.reason) == ("unknown", True)
    assert "crossfade audit" in (result.remedy or "")


@pytest.mark.parametrize(("name", "phase"), [("redis", 2), ("kafka", 4)])
async def test_a_log_that_ends_before_its_watermark_proves_nothing(scene, logs, name, phase):
    """It went back: a replica that was behind, an unclean election, an older file."""
    log = logs[name]
    await append(log, message("kept", "c"))
    (stands,) = [
        part for part in await log.progress(Topic.MESSAGES, group=WORKER_GROUP) if part.lag
    ]
    await acknowledge(log)
    mark = f"9{stands.end}"  # one digit more: far behind it, in either log
    marks = {name: {str(stands.partition): mark}}
    found = await ask(await scene(phase, 3, watermark=marks), "watermark")
    assert (found.verdict, "ends before where it ended" in found.reason) == ("unknown", True)
    assert "crossfade audit" in (found.remedy or "")
