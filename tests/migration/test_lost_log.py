"""``crossfade migrate retire --lost``: give up a log whose machine and disk are gone."""

from __future__ import annotations

import json

import pytest

from migration_guide.errors import NotRetired, NotStarted
from migration_guide.lost_log import judge_loss, retire_lost
from migration_guide.steps import Steps
from persistence.fleet.log_choice import Choice, LogPair
from persistence.fleet.migration_state import history
from persistence.fleet.retired_logs import retired_logs
from persistence.fleet.used_logs import NOTE, used_logs
from tests.support.crossfade import Crossfade
from transport.settings import TransportSettings

MIRROR = Choice("redis", "redis.b", "sync", "redis")
LEFT = Choice("redis.b", None, None, "redis.b")


@pytest.fixture
def steps(database_pool) -> Steps:
    return Steps(database_pool, TransportSettings())


async def test_the_migration_rests_on_the_log_that_is_left(steps, process, database_pool):
    with pytest.raises(NotStarted):
        await judge_loss(steps, "redis")
    await steps.machine.adopt(MIRROR, "first")
    await database_pool.execute(NOTE.format(transport="'redis'", owner="'a'"))
    await process("a", None, choice=MIRROR, logs={})
    await process("b", None, choice=LEFT, logs={})
    with pytest.raises(NotRetired, match="in their settings: a"):
        await retire_lost(steps, "redis", who="op", why="x")
    epoch = (await steps.look()).state.epoch
    with pytest.raises(NotRetired):  # it may have started after the look
        await steps.machine.retire_lost(epoch, "redis", who="op", why="x")
    await process("a", None, choice=LEFT, logs={})
    assert await retire_lost(steps, "redis", who="op", why="burnt") == "redis.b"
    state = (await steps.look()).state
    assert (state.pair, state.phase, state.target) == (LogPair("redis.b", None), 0, 0)
    assert "redis" not in await used_logs(database_pool)
    assert "burnt" in (await retired_logs(database_pool))["redis"]
    (last, *_) = await history(database_pool)
    assert (last.kind, last.why) == ("retired", "lost redis: burnt")


async def test_a_step_under_way_is_over_and_one_that_is_queued_is_in_the_way(
    steps, process, database_pool
):
    await steps.machine.adopt(MIRROR, "first")
    await process("a", None, choice=LEFT, logs={})
    state = (await steps.look()).state
    await steps.machine.queue(state.epoch, 3, who="op", why="x", seconds=60, red=[])
    _, (obstacle,) = await judge_loss(steps, "redis")
    assert obstacle.name == "migration"
    state = await steps.machine.cancel(state.epoch + 1, who="op", why="x")
    await steps.machine.begin(state.epoch, 3, who="op", why="x")
    assert await retire_lost(steps, "redis", who="op", why="burnt") == "redis.b"


async def test_a_log_that_alone_has_the_messages_is_not_given_up(steps, process):
    await steps.machine.adopt(Choice("redis", None, None, "redis"), "first")
    await process("a", None, choice=Choice("kafka", None, None, "kafka"), logs={})
    _, (obstacle,) = await judge_loss(steps, "redis")
    assert "where redis alone has the messages" in obstacle.reason


async def test_it_is_typed_tried_and_done(steps, process, database_pool, database_url, tmp_path):
    await steps.machine.adopt(MIRROR, "first")
    await process("a", None, choice=MIRROR, logs={})

    async def crossfade(*arguments: str) -> tuple[int, str]:
        await database_pool.execute("UPDATE processes SET seen_at = now()")
        typed = ("retire", "redis", "--lost", "--why", "burnt", *arguments)
        ran = await Crossfade.fork("migrate", *typed, cwd=tmp_path, DATABASE_URL=database_url)
        return await ran.ends(), ran.text

    status, text = await crossfade("--yes")
    assert (status, "refused: processes" in text) == (1, True)
    status, text = await crossfade("--json", "--yes")
    assert (status, json.loads(text)["obstacles"][0]["name"]) == (1, "processes")
    await process("a", None, choice=LEFT, logs={})
    status, text = await crossfade("--dry-run")
    assert (status, text.strip()) == (0, "would be retired as lost")
    status, text = await crossfade("--yes")
    assert (status, text.strip()) == (
        0,
        "retired: redis as lost; redis.b is written and read",
    )
