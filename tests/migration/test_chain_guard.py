"""Steps change the chain, and so does a process with other settings than a step's."""

from __future__ import annotations

import pytest

from migration_guide.chain_guard import ChainGuard
from migration_guide.mirrored import mirrored_since
from migration_guide.steps import Steps
from persistence.chain.known_chain import KnownChain
from persistence.fleet.migration_state import history, state
from tests.migration.gate_inputs import ask
from tests.persistence.samples import message
from tests.support.mirrors import append
from tests.support.phases import CHOICES


@pytest.fixture
def guard(state_machine, database_pool):
    """Return the guard of a process that runs a phase."""

    def make(phase: int) -> ChainGuard:
        chain = KnownChain(database_pool)
        return ChainGuard(state_machine, chain, CHOICES[phase], who="a")

    return make


@pytest.fixture
def take(both, logs, process, state_machine, chain, database_pool):
    """Take steps with one process; return the logs of the chain, and those that are whole."""

    async def to(*phases: int) -> tuple[list[str], set[str]]:
        steps = Steps(database_pool, both)
        met = {name: await log.identity() for name, log in logs.items()}
        if await state(database_pool) is None:
            await state_machine.adopt(CHOICES[phases[0]], "first")
            await chain.begin(CHOICES[phases[0]].consume_from)
            await process("a", phases[0], logs=met)
            phases = phases[1:]
        for phase in phases:
            epoch = (await state(database_pool)).epoch
            await state_machine.begin(epoch, phase, who="op", why="x")
            await process("a", phase, logs=met)
            assert await steps.complete(await steps.look(), who="op")
        await chain.load()
        return [link.log for link in chain.now.links], chain.now.whole()

    return to


async def test_the_chain_there_and_back(take):
    assert await take(0, 1) == (["redis"], {"redis"})
    assert await take(2) == (["redis", "kafka"], {"redis", "kafka"})
    assert await take(3, 4) == (["redis", "kafka"], {"redis", "kafka"})
    assert await take(5) == (["redis", "kafka"], {"kafka"})
    assert await take(4) == (["redis", "kafka", "redis"], {"redis", "kafka"})
    assert await take(3, 2, 1, 0) == (["redis", "kafka", "redis"], {"redis"})


async def test_a_step_that_is_turned_back_leaves_no_link(take):
    assert await take(0, 1, 2, 1) == (["redis"], {"redis"})


async def test_a_log_is_closed_before_a_process_may_leave_it_out(take, state_machine, chain):
    await take(3, 4)
    await state_machine.begin(3, 5, who="op", why="x")
    await chain.load()
    assert chain.now.whole() == {"kafka"}


async def test_the_mark_is_where_the_log_ended_when_every_process_wrote_both(take, logs, chain):
    await take(0, 1)
    (offset,) = await append(logs["redis"], message("of phase 1", "c"))
    await take(2)
    await append(logs["redis"], message("of phase 2", "c"))
    assert list(chain.now.links[0].marks.offsets.values()) == [offset]


@pytest.mark.parametrize("stray", [0, 1])
async def test_a_process_that_does_not_mirror_closes_the_other_log(
    take, guard, chain, database_pool, stray
):
    await take(1, 2)
    before = await state(database_pool)
    watch = guard(stray)
    for _ in range(2):
        await watch.compare(await state(database_pool))
    await chain.load()
    assert ([link.log for link in chain.now.links], chain.now.whole()) == (["redis"], {"redis"})
    assert await mirrored_since(database_pool) is None
    newest = (await history(database_pool))[0]
    assert (newest.kind, newest.epoch) == ("unmarked", before.epoch + 1), "once"


@pytest.mark.parametrize("phases", [(0, 1), (1, 2), (2, 3), (3, 4), (5, 4)])
async def test_a_process_of_a_step_changes_nothing(
    take, guard, state_machine, chain, database_pool, phases
):
    origin, to = phases
    await take(origin)
    epoch = (await state(database_pool)).epoch
    await state_machine.begin(epoch, to, who="op", why="x")
    before = chain.now
    for phase in phases:
        await guard(phase).compare(await state(database_pool))
    assert not await chain.load()
    assert chain.now == before


async def test_a_queued_step_is_cancelled_by_it(take, guard, state_machine, database_pool):
    await take(1, 2)
    epoch = (await state(database_pool)).epoch
    await state_machine.queue(epoch, 3, who="op", why="x", seconds=60, red=["watermark"])
    await guard(1).compare(await state(database_pool))
    assert (await state(database_pool)).queued is None


async def test_both_are_whole_again_when_every_process_is_on_the_phase(
    scene, both, logs, process, take, guard, database_pool
):
    """Its mark is where the logs end then, and not while a process may write one log only."""
    await take(5, 4)
    await guard(5).compare(await state(database_pool))
    await append(logs["kafka"], message("of phase 5", "c"))
    steps = Steps(database_pool, both)
    met = {name: await log.identity() for name, log in logs.items()}
    await process("b", 5, logs=met)
    assert await steps.complete(await steps.look(), who="op") is None
    closed = await ask(await scene(4, 3), "watermark")
    assert (closed.verdict, "had other settings" in closed.reason) == ("unknown", True)
    await process("b", 4, logs=met)
    assert await steps.complete(await steps.look(), who="op") is not None
    assert await mirrored_since(database_pool) is not None
    assert (await ask(await scene(4, 3), "watermark")).verdict == "red"
    assert await steps.complete(await steps.look(), who="op") is None, "once"
