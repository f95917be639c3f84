"""What processes tell of themselves: their phase, shadow, workers, and what was dropped."""

from __future__ import annotations

import time

import pytest

from migration_guide.gates import GATES
from migration_guide.phases import STEPS
from tests.migration.gate_inputs import ask

SHADOW = {
    "name": "kafka", "mode": "sync", "breaker": "closed", "waiting": 0, "oldest_age": 0.0,
    "error": "", "dropped": 0, "dropped_at": None,
}  # fmt: skip


def test_every_step_has_gates_that_exist():
    assert {name for step in STEPS for name in step.gates} == set(GATES)
    assert all(step.gates[0] == "processes" for step in STEPS)


@pytest.mark.parametrize(
    ("others", "verdict", "reason"),
    [
        ([], "green", "all 2 are on phase 1"),
        ([("old", 0, 0)], "red", "old (serve, phase 0)"),
        ([("ahead", 2, 0)], "red", "ahead (serve, phase 2)"),
        ([("odd", None, 0)], "red", "TRANSPORT=memory"),
        ([("lost", 1, 11)], "unknown", "crossfade migrate forget lost"),
        ([("lost", 0, 11)], "unknown", "silent for 11 s"),
    ],
)
async def test_processes(scene, process, others, verdict, reason):
    for member in ("a", "b"):
        await process(member, 1)
    for member, phase, silent in others:
        await process(member, phase, silent=silent)
    result = await ask(await scene(1, 2), "processes")
    assert result.verdict == verdict
    assert reason in result.reason


async def test_one_process_is_not_spoken_of_as_many(scene, process):
    await process("a", 1)
    result = await ask(await scene(1, 2), "processes")
    assert result.reason == "the only process is on phase 1"


async def test_no_process_is_not_every_process(scene):
    assert (await ask(await scene(1, 2), "processes")).verdict == "unknown"


@pytest.mark.parametrize(
    ("told", "verdict", "reason"),
    [
        (SHADOW, "green", "no copy waits"),
        ({**SHADOW, "waiting": 3, "oldest_age": 0.1}, "red", "3 copies wait in a"),
        ({**SHADOW, "mode": "async", "waiting": 3, "oldest_age": 5.0}, "red", "3 copies wait in a"),
        ({**SHADOW, "mode": "async", "waiting": 3, "oldest_age": 0.1}, "green", "no copy waits"),
        ({**SHADOW, "breaker": "open", "error": "refused"}, "red", "a can't write to the shadow"),
        (None, "unknown", "no report on the shadow from a"),
    ],
)
async def test_shadow(scene, process, told, verdict, reason):
    await process("a", 2, shadow=told)
    result = await ask(await scene(2, 3), "shadow")
    assert result.verdict == verdict
    assert reason in result.reason


async def test_the_shadow_of_no_process_is_not_every_process(scene):
    assert (await ask(await scene(2, 3), "shadow")).verdict == "unknown"


async def test_workers(scene, process, own):
    """Red while one waits, or a partition has no live owner with these settings; else green."""
    await process("a", 2, paused=[{"dependency": "postgresql", "since": "", "error": ""}])
    assert "a waits for postgresql" in (await ask(await scene(2, 3), "workers")).reason
    await process("a", 2)

    async def judged() -> tuple[str, bool]:
        result = await ask(await scene(2, 3), "workers")
        return result.verdict, "no live process reads partitions" in result.reason

    assert await judged() == ("red", True)
    await own("a", "redis")
    assert (await judged())[0] == "green"
    await own("b", "redis", partitions=[1])
    assert await judged() == ("red", True), "b reports nothing"
    await process("b", 2, silent=20)
    assert await judged() == ("red", True)
    await process("b", 4)
    assert await judged() == ("red", True), "b is to read the other log"
    await process("b", 2)
    assert (await judged())[0] == "green"


async def test_dropped(scene, process, database_pool):
    """Red for a gap since the phase was reached, and for one too young for the ledger."""
    await process("a", 2, shadow=SHADOW)
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green"
    gap = (
        "INSERT INTO shadow_gaps (transport, shadow, partition, kind, records, noted_by, noted_at)"
        " VALUES ('redis', 'kafka', 3, 'full', 7, 'a', now() + $1::int * interval '1 hour')"
    )
    await database_pool.execute(gap, -1)
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green", "of an earlier phase"
    await database_pool.execute(gap, 1)
    result = await ask(await scene(2, 3), "dropped")
    assert (result.verdict, "not given 7 messages (partitions [3])" in result.reason) == (
        "red", True,
    )  # fmt: skip
    assert "crossfade migrate backfill" in (result.remedy or "")
    await database_pool.execute("UPDATE shadow_gaps SET repaired_at = now()")
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green"
    just_now = {**SHADOW, "dropped_at": time.time() + 1}
    await process("a", 2, shadow=just_now)
    recent = await ask(await scene(2, 3), "dropped")
    assert "a dropped copies" in recent.reason
    assert recent.remedy is None, "the ledger has them in a moment"
    await process("a", 2, shadow={**just_now, "unwritten": 1})
    assert "a dropped copies" in (await ask(await scene(2, 3), "dropped")).reason
    await process("a", 2, shadow={**just_now, "unwritten": 0})
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green", "all of it is written"
