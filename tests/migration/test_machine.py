"""The state machine against a model of itself, and several operators at once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from migration_guide.errors import MigrationError, NotAStep, NotStarted, Overtaken, StepQueued
from migration_guide.mirrored import mirrored_since
from persistence.fleet.migration_state import history, state
from tests.support.phases import CHOICES


@dataclass
class Model:
    """What the rules say, in as few words as can be."""

    phase: int = 0
    target: int = 0
    epoch: int = 1
    queued: int | None = None
    kinds: list[str] = field(default_factory=lambda: ["adopted"])

    def may_go(self, to: int) -> bool:
        if self.phase == self.target:
            return abs(to - self.phase) == 1 and 0 <= to <= 5
        return to == self.phase

    def begin(self, to: int, *, queued: bool) -> bool:
        if not self.may_go(to) or (queued and self.queued != to):
            return False
        if not queued and self.queued is not None:
            if to > self.phase:
                return False
            self._did("cancelled")
        if self.phase != self.target:  # turned back
            self.phase = self.target
        self.target, self.queued = to, None
        return self._did("begun")

    def complete(self) -> bool:
        if self.phase == self.target:
            return False
        self.phase, self.queued = self.target, None
        return self._did("completed")

    def queue(self, to: int) -> bool:
        if not self.may_go(to) or self.queued is not None:
            return False
        self.queued = to
        return self._did("queued")

    def cancel(self) -> bool:
        if self.queued is None:
            return False
        self.queued = None
        return self._did("cancelled")

    def _did(self, kind: str) -> bool:
        self.epoch += 1
        self.kinds.append(kind)
        return True


async def act(machine, model: Model, draw: random.Random) -> tuple[bool, bool]:
    """Do one random thing on the present epoch or an old one; return what both say of it."""
    stale = draw.random() < 0.2
    epoch = model.epoch - draw.randint(1, 3) if stale else model.epoch
    to = draw.randint(0, 5) if draw.random() < 0.3 else model.phase + draw.choice((-1, 0, 1))
    queued = draw.random() < 0.3
    who = {"who": "op", "why": "a test"}
    what = draw.choice(("begin", "begin", "complete", "complete", "queue", "cancel"))
    calls = {
        "begin": (
            lambda: machine.begin(epoch, to, queued=queued, **who),
            lambda: model.begin(to, queued=queued),
        ),
        "complete": (
            lambda: machine.complete(epoch, who="op"),
            model.complete,
        ),
        "queue": (
            lambda: machine.queue(epoch, to, seconds=60, red=[], **who),
            lambda: model.queue(to),
        ),
        "cancel": (lambda: machine.cancel(epoch, **who), model.cancel),
    }
    real, expected = calls[what]
    try:
        await real()
    except Overtaken:
        # Also what a step answers that was to come from a queue which is no more.
        return False, False if stale or (what == "begin" and queued) else expected()
    except MigrationError:
        return False, not stale and expected()
    return True, not stale and expected()


@pytest.mark.parametrize("seed", range(4))
async def test_it_does_what_the_model_does(state_machine, database_pool, seed):
    """Whatever is asked, on whatever epoch: the same answer, the same state, the same history."""
    draw, model = random.Random(seed), Model()
    await state_machine.adopt(CHOICES[0], "first")
    for _ in range(120):
        did, expected = await act(state_machine, model, draw)
        assert did == expected, model
        found = await state(database_pool)
        assert found is not None
        assert (found.phase, found.target, found.epoch) == (
            model.phase,
            model.target,
            model.epoch,
        )
        assert (found.queued.to if found.queued else None) == model.queued
        assert 0 <= found.phase <= 5
    kinds = [event.kind for event in reversed(await history(database_pool, 1000))]
    assert kinds == model.kinds
    assert len(set(kinds)) == 5, "the seed tried everything"


async def test_of_two_operators_who_decide_on_the_same_state_one_is_overtaken(state_machine):
    await state_machine.adopt(CHOICES[2], "first")
    results = await asyncio.gather(
        *(
            state_machine.begin(1, to, who=f"op{to}", why="now")
            for to in (3, 1, 3, 1)
        ),
        return_exceptions=True,
    )  # fmt: skip
    states = [result for result in results if not isinstance(result, BaseException)]
    assert len(states) == 1
    assert all(isinstance(result, Overtaken) for result in results if result not in states)


async def test_it_is_adopted_once_and_has_to_be_adopted_first(state_machine, database_pool):
    with pytest.raises(NotStarted, match="start the service"):
        await state_machine.begin(1, 1, who="op", why="early")
    await asyncio.gather(*(state_machine.adopt(CHOICES[phase], "p") for phase in (0, 3, 5)))
    first = await state(database_pool)
    await state_machine.adopt(CHOICES[4], "late")
    assert await state(database_pool) == first
    assert [entry.kind for entry in await history(database_pool)] == ["adopted"]


async def test_a_queued_step_keeps_others_from_going_on_but_not_from_going_back(
    state_machine, database_pool
):
    await state_machine.adopt(CHOICES[1], "first")
    queued = await state_machine.queue(1, 2, who="ann", why="soon", seconds=60, red=["parity"])
    with pytest.raises(StepQueued, match=r"queued by ann.* If it was killed, .*migrate cancel"):
        await state_machine.begin(queued.epoch, 2, who="bob", why="now")
    back = await state_machine.begin(queued.epoch, 0, who="bob", why="trouble")
    assert (back.target, back.queued) == (0, None)
    assert not await state_machine.still_queued(queued.epoch, [])
    kinds = [event.kind for event in await history(database_pool)]
    assert kinds == ["begun", "cancelled", "queued", "adopted"]


async def test_since_when_a_phase_is_reached_is_moved_by_its_completion_alone(state_machine):
    """The gates look at what was dropped and compared since then."""
    await state_machine.adopt(CHOICES[1], "first")
    queued = await state_machine.queue(1, 2, who="ann", why="soon", seconds=60, red=["parity"])
    since = queued.reached_at
    cancelled = await state_machine.cancel(queued.epoch, who="ann", why="not yet")
    assert cancelled.reached_at == since
    begun = await state_machine.begin(cancelled.epoch, 2, who="ann", why="now")
    assert begun.reached_at == since
    done = await state_machine.complete(begun.epoch, who="ann")
    assert done.reached_at > since


@pytest.mark.parametrize("column", ["until", "seenAt"])
async def test_a_queued_step_whose_time_is_up_or_whose_waiter_is_silent_is_in_nobodys_way(
    state_machine, database_pool, column
):
    await state_machine.adopt(CHOICES[1], "first")
    queued = await state_machine.queue(1, 2, who="ann", why="soon", seconds=600, red=["parity"])
    assert await state_machine.still_queued(queued.epoch, ["start"])
    waiting = (await state(database_pool)).queued
    assert (waiting.red, waiting.who) == (["start"], "ann")
    await database_pool.execute(
        "UPDATE migration SET queued = queued || jsonb_build_object($1::text,"
        " now() - interval '61 seconds')",
        column,
    )
    assert (await state_machine.begin(queued.epoch, 2, who="bob", why="now")).target == 2


async def test_a_step_to_no_neighbour_is_refused_with_the_reason(state_machine):
    await state_machine.adopt(CHOICES[1], "first")
    with pytest.raises(NotAStep, match="no phase next to phase 1"):
        await state_machine.begin(1, 3, who="op", why="hurry")
    moving = await state_machine.begin(1, 2, who="op", why="go")
    with pytest.raises(NotAStep, match="under way"):
        await state_machine.begin(moving.epoch, 3, who="op", why="hurry")
    turned = await state_machine.begin(moving.epoch, 1, who="op", why="no")
    assert (turned.phase, turned.target) == (2, 1), "some processes are on 2 already"
    completed = await state_machine.complete(turned.epoch, who="op")
    assert not completed.under_way


async def test_since_when_every_process_mirrors_is_from_the_first_phase_that_does(
    state_machine, database_pool
):
    """Not from the last step between two that do, and not while a step leads out of them."""
    await state_machine.adopt(CHOICES[1], "first")
    assert await mirrored_since(database_pool) is None

    async def go(to: int) -> None:
        epoch = (await state(database_pool)).epoch
        await state_machine.begin(epoch, to, who="op", why="go")

    async def arrive() -> float:
        epoch = (await state(database_pool)).epoch
        reached = await state_machine.complete(epoch, who="op")
        return datetime.fromisoformat(reached.reached_at).timestamp()

    await go(2)
    assert await mirrored_since(database_pool) is None, "some processes are on 1 still"
    first = await arrive()
    for to in (3, 4, 3, 2):
        await go(to)
        assert await mirrored_since(database_pool) == first
        await arrive()
        assert await mirrored_since(database_pool) == first
    await go(1)
    assert await mirrored_since(database_pool) is None
    await go(2)  # turned back: some are on 1
    assert await mirrored_since(database_pool) is None
    again = await arrive()
    assert again > first
    assert await mirrored_since(database_pool) == again
