"""The watermark: what was appended before both logs were written has become rows."""

from __future__ import annotations

import pytest

from migration_guide.phases import STEPS
from tests.migration.gate_inputs import ReportedProgress, ask
from tests.persistence.samples import message
from tests.support.mirrors import append, mirror, seal
from tests.support.positions import settle, settle_through
from transport.contract import WORKER_GROUP, Topic


async def ends_of(log) -> dict[int, str]:
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return {part.partition: part.end for part in progress if part.end}


async def test_watermark(scene, logs, marked, database_pool):
    """Red until the log that is read is persisted through where it ended; unknown without."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    unknown = await ask(await scene(2, 3), "watermark")
    assert (unknown.verdict, "migrate watch" in (unknown.remedy or "")) == ("unknown", True)
    await marked("redis", await ends_of(redis))
    below = await ask(await scene(2, 3), "watermark")
    assert (below.verdict, "through an unknown position" in below.reason) == ("red", True)
    assert below.remedy is None, "the workers turn it green"
    await settle(database_pool, redis)
    await append(redis, message("later"))
    assert (await ask(await scene(2, 3), "watermark")).verdict == "green"


@pytest.mark.parametrize(("through", "verdict"), [(2, "red"), (3, "green"), (4, "green")])
async def test_the_watermark_is_met_where_the_readers_are_through_it(
    scene, logs, marked, database_pool, through, verdict
):
    """Not where they have merely begun, and no later either: traffic goes on."""
    redis = logs["redis"]
    offsets = await append(redis, *(message(f"m{i}", "c") for i in range(6)))
    partition = seal(message("m0", "c")).partition
    await settle_through(database_pool, redis, {partition: offsets[through]})
    await marked("redis", {partition: offsets[3]})
    assert (await ask(await scene(2, 3), "watermark")).verdict == verdict


async def test_phase_3_waits_for_what_phase_5_left_out_of_redis(scene, logs, marked, database_pool):
    """Then records of Redis may become rows, and none of them may have a hole before it."""
    assert all("watermark" in step.gates for step in STEPS if step.to == 3)
    kafka, redis = logs["kafka"], logs["redis"]
    await append(kafka, message("of phase 5", "c"))
    await marked("kafka", await ends_of(kafka))
    await mirror(kafka, redis, message("after it", "c"))
    assert (await ask(await scene(4, 3), "watermark")).verdict == "red"
    await settle(database_pool, kafka)
    assert (await ask(await scene(4, 3), "watermark")).verdict == "green"


async def test_the_watermark_of_a_log_that_lost_records_is_left_to_the_operator(
    scene, logs, marked, database_pool
):
    """Its offsets may be those of later records by now, and nothing below it need be a row."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    await marked("redis", await ends_of(redis))
    await settle(database_pool, redis)
    asked = await scene(2, 3)
    assert (await ask(asked, "watermark")).verdict == "green"
    asked.logs["redis"] = ReportedProgress(redis, lost=2)
    result = await ask(asked, "watermark")
    assert (result.verdict, "redis once lost 8 records" in result.reason) == ("unknown", True)
    assert "crossfade audit" in (result.remedy or "")


@pytest.mark.parametrize(("name", "phase"), [("redis", 2), ("kafka", 4)])
async def test_a_log_that_ends_before_its_watermark_proves_nothing(
    scene, logs, marked, name, phase, database_pool
):
    """It went back: a replica that was behind, an unclean election, an older file."""
    log = logs[name]
    await append(log, message("kept", "c"))
    ((partition, end),) = (await ends_of(log)).items()
    await settle(database_pool, log)
    await marked(name, {partition: f"9{end}"})  # one digit more: far behind it, in either log
    found = await ask(await scene(phase, 3), "watermark")
    assert (found.verdict, "ends before where it ended" in found.reason) == ("unknown", True)
    assert "crossfade audit" in (found.remedy or "")


async def test_a_watermark_of_another_log_under_this_name_proves_nothing(
    scene, logs, marked, database_pool
):
    redis = logs["redis"]
    await append(redis, message("m"))
    await marked("redis", await ends_of(redis), identity="another")
    await settle(database_pool, redis)
    found = await ask(await scene(2, 3), "watermark")
    assert (found.verdict, "another log" in found.reason) == ("unknown", True)


async def test_a_position_that_only_the_log_shows_proves_nothing(
    scene, logs, marked, database_pool
):
    """Another program set the group to the end; or the position is one of another log."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    ends = await ends_of(redis)
    await marked("redis", ends)
    await redis.publish_positions(Topic.MESSAGES, ends, group=WORKER_GROUP)
    assert (await ask(await scene(2, 3), "watermark")).verdict == "red"
    await settle(database_pool, redis)
    await database_pool.execute("UPDATE log_positions SET log = 'another'")
    assert (await ask(await scene(2, 3), "watermark")).verdict == "red"
