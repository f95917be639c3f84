"""A watermark is void once a process shows that messages may be in one log only."""

from __future__ import annotations

import pytest

from migration_guide.machine import Machine
from migration_guide.mirrored import mirrored_since
from migration_guide.steps import Steps
from migration_guide.watermark_guard import WatermarkGuard
from persistence.fleet.migration_state import MigrationState, history, state
from tests.migration.gate_inputs import ask
from tests.persistence.samples import message
from tests.support.mirrors import append
from tests.support.phases import CHOICES

MARK = {"redis": {"0": "1-0"}, "kafka": {"0": "1"}}


@pytest.fixture
def stands(state_machine, database_pool):
    """Bring the migration to rest at a phase, with a watermark."""

    async def at(phase: int, *, before: int) -> MigrationState:
        await state_machine.adopt(CHOICES[before], "first")
        await state_machine.begin(1, phase, who="op", why="x")
        return await state_machine.complete(2, who="op", watermark=MARK)

    return at


def guard(machine: Machine, phase: int) -> WatermarkGuard:
    return WatermarkGuard(machine, CHOICES[phase], who="a")


@pytest.mark.parametrize(("stray", "void"), [(0, True), (1, True), (2, False), (3, False)])
async def test_a_process_that_does_not_mirror_makes_it_void(
    stands, state_machine, database_pool, stray, void
):
    standing = await stands(2, before=1)
    for _ in range(2):
        await guard(state_machine, stray).compare(await state(database_pool))
    after = await state(database_pool)
    assert (after.watermark is None) == void
    assert after.epoch == standing.epoch + void, "once"
    assert (await mirrored_since(database_pool) is None) == void
    newest = (await history(database_pool))[0]
    assert (newest.kind == "unmarked") == void


async def test_a_step_that_leads_out_or_in_does_not(stands, state_machine, database_pool):
    """Its end records a new one."""
    await stands(4, before=5)
    await state_machine.begin(3, 5, who="op", why="x")
    watch = guard(state_machine, 5)
    await watch.compare(await state(database_pool))
    await state_machine.complete(4, who="op", watermark=None)
    await watch.compare(await state(database_pool))
    assert (await state(database_pool)).watermark == MARK
    await state_machine.begin(5, 4, who="op", why="x")
    await watch.compare(await state(database_pool))
    assert (await state(database_pool)).watermark == MARK


async def test_a_state_that_went_back_makes_it_void(stands, state_machine, database_pool):
    """PostgreSQL failed over to a standby that has not heard of phase 5."""
    await stands(4, before=5)
    kept = await database_pool.fetchrow("SELECT * FROM migration")
    watch = guard(state_machine, 4)
    await watch.compare(await state(database_pool))
    for step in (5, 4):
        epoch = (await state(database_pool)).epoch
        await state_machine.begin(epoch, step, who="op", why="x")
        await state_machine.complete(epoch + 1, who="op", watermark={"kafka": {"0": "9"}})
    await watch.compare(await state(database_pool))
    assert (await state(database_pool)).watermark == {"kafka": {"0": "9"}}
    await database_pool.execute(
        "UPDATE migration SET epoch = $1, watermark = $2", kept["epoch"], kept["watermark"]
    )
    await watch.compare(await state(database_pool))
    found = await state(database_pool)
    assert found.watermark is None
    assert found.why == "PostgreSQL lost the migration's changes 4 to 7"


async def test_a_queued_step_is_cancelled_by_it(stands, state_machine, database_pool):
    await stands(2, before=1)
    await state_machine.queue(3, 3, who="op", why="x", seconds=60, red=["watermark"])
    await guard(state_machine, 1).compare(await state(database_pool))
    found = await state(database_pool)
    assert (found.queued, found.watermark) == (None, None)


async def test_a_new_one_is_recorded_when_every_process_is_on_the_phase(
    scene, both, logs, process, stands, state_machine, database_pool
):
    """It is where both logs end then, and not while a process may write one log only."""
    await stands(4, before=5)
    await guard(state_machine, 5).compare(await state(database_pool))
    await append(logs["kafka"], message("of phase 5", "c"))
    steps = Steps(database_pool, both)
    met = {name: await log.identity() for name, log in logs.items()}
    await process("a", 4, logs=met)
    await process("b", 5, logs=met)
    assert await steps.complete(await steps.look(), who="op") is None
    unmarked = await ask(await scene(4, 3), "watermark")
    assert (unmarked.verdict, "made void" in unmarked.reason) == ("unknown", True)
    await process("b", 4, logs=met)
    marked = await steps.complete(await steps.look(), who="op")
    assert marked is not None
    assert set(marked.watermark) == {"redis", "kafka"}
    assert await mirrored_since(database_pool) is not None
    assert (await ask(await scene(4, 3), "watermark")).verdict == "red"
    assert await steps.complete(await steps.look(), who="op") is None, "once"
