"""The watermark: what was appended before a change has been read."""

from __future__ import annotations

import pytest

from migration_guide.phases import STEPS
from tests.migration.gate_inputs import ReportedProgress, ask
from tests.persistence.samples import message
from tests.support.mirrors import append, mirror, seal
from tests.support.positions import settle, settle_through
from transport.contract import WORKER_GROUP, Topic


async def test_watermark(scene, logs, database_pool):
    """Red until the log that is read is persisted through where it ended; unknown without."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    ends = {
        str(part.partition): part.end
        for part in await redis.progress(Topic.MESSAGES, group=WORKER_GROUP)
    }
    unknown = await ask(await scene(2, 3), "watermark")
    assert (unknown.verdict, "migrate watch" in (unknown.remedy or "")) == ("unknown", True)
    below = await ask(await scene(2, 3, watermark={"redis": ends}), "watermark")
    assert (below.verdict, "through an unknown position" in below.reason) == ("red", True)
    assert below.remedy is None, "the workers turn it green"
    await settle(database_pool, redis)
    await append(redis, message("later"))
    assert (await ask(await scene(2, 3, watermark={"redis": ends}), "watermark")).verdict == "green"


@pytest.mark.parametrize(("through", "verdict"), [(2, "red"), (3, "green"), (4, "green")])
async def test_the_watermark_is_met_where_the_readers_are_through_it(
    scene, logs, database_pool, through, verdict
):
    """Not where they have merely begun, and no later either: traffic goes on."""
    redis = logs["redis"]
    offsets = await append(redis, *(message(f"m{i}", "c") for i in range(6)))
    partition = seal(message("m0", "c")).partition
    await settle_through(database_pool, redis, {partition: offsets[through]})
    marks = {"redis": {str(partition): offsets[3]}}
    assert (await ask(await scene(2, 3, watermark=marks), "watermark")).verdict == verdict


async def test_phase_3_waits_for_what_phase_5_left_out_of_redis(scene, logs, database_pool):
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
    await settle(database_pool, kafka)
    back = await ask(await scene(4, 3, watermark={"kafka": ends}), "watermark")
    assert back.verdict == "green"


async def test_the_watermark_of_a_log_that_lost_records_is_left_to_the_operator(
    scene, logs, database_pool
):
    """Its offsets may be those of later records by now, and nothing below it need be a row."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    progress = await redis.progress(Topic.MESSAGES, group=WORKER_GROUP)
    ends = {str(part.partition): part.end for part in progress}
    await settle(database_pool, redis)
    asked = await scene(2, 3, watermark={"redis": ends})
    assert (await ask(asked, "watermark")).verdict == "green"
    asked.logs["redis"] = ReportedProgress(redis, lost=2)
    result = await ask(asked, "watermark")
    assert (result.verdict, "redis once lost 8 records" in result.reason) == ("unknown", True)
    assert "crossfade audit" in (result.remedy or "")


@pytest.mark.parametrize(("name", "phase"), [("redis", 2), ("kafka", 4)])
async def test_a_log_that_ends_before_its_watermark_proves_nothing(
    scene, logs, name, phase, database_pool
):
    """It went back: a replica that was behind, an unclean election, an older file."""
    log = logs[name]
    await append(log, message("kept", "c"))
    (stands,) = [
        part for part in await log.progress(Topic.MESSAGES, group=WORKER_GROUP) if part.lag
    ]
    await settle(database_pool, log)
    mark = f"9{stands.end}"  # one digit more: far behind it, in either log
    marks = {name: {str(stands.partition): mark}}
    found = await ask(await scene(phase, 3, watermark=marks), "watermark")
    assert (found.verdict, "ends before where it ended" in found.reason) == ("unknown", True)
    assert "crossfade audit" in (found.remedy or "")


async def test_a_position_that_only_the_log_shows_proves_nothing(scene, logs, database_pool):
    """Another program set the group to the end; or the position is one of another log."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    progress = await redis.progress(Topic.MESSAGES, group=WORKER_GROUP)
    ends = {part.partition: part.end for part in progress if part.end}
    marks = {"redis": {str(partition): end for partition, end in ends.items()}}
    await redis.publish_positions(Topic.MESSAGES, ends, group=WORKER_GROUP)
    assert (await ask(await scene(2, 3, watermark=marks), "watermark")).verdict == "red"
    await settle(database_pool, redis)
    await database_pool.execute("UPDATE log_positions SET log = 'another'")
    assert (await ask(await scene(2, 3, watermark=marks), "watermark")).verdict == "red"
