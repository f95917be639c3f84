"""``crossfade migrate retire --lost``: give up a log whose machine and disk are gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from migration_guide.errors import NotRetired, NotStarted
from migration_guide.lost_log import LogLoss, judge_loss, retire_lost
from migration_guide.steps import Steps
from persistence.chain.known_chain import KnownChain
from persistence.chain.links import Marks
from persistence.fleet.log_choice import Choice, LogPair
from persistence.fleet.migration_state import history
from persistence.fleet.retired_logs import retired_logs
from persistence.fleet.used_logs import NOTE, used_logs
from tests.support.crossfade import Crossfade
from transport.errors import ConfigurationError
from transport.redis import RedisTransport
from transport.settings import TransportSettings

MIRROR = Choice("redis", "redis.b", "sync", "redis")
LEFT = Choice("redis.b", None, None, "redis.b")


GONE = TransportSettings(redis_port=1)
"""Where nothing listens."""


@pytest.fixture
def steps(database_pool) -> Steps:
    return Steps(database_pool, GONE)


@pytest.fixture
def judged(steps, database_pool) -> Callable[..., Any]:
    async def judge(name: str, settings: TransportSettings = GONE, **more: Any) -> LogLoss:
        return await judge_loss(steps, database_pool, name, settings, **more)

    return judge


@pytest.fixture
def retired(steps, database_pool) -> Callable[..., Any]:
    async def retire(name: str, **more: Any) -> str | None:
        return await retire_lost(steps, database_pool, name, GONE, who="op", why="burnt", **more)

    return retire


@pytest.fixture
def at(steps, process, database_pool) -> Callable[..., Any]:
    """Have a migration from ``redis`` to ``redis.b`` stand somewhere; both were used."""

    async def stand(phase: int, target: int) -> None:
        await steps.machine.adopt(MIRROR, "first")
        await database_pool.execute("UPDATE migration SET phase = $1, target = $2", phase, target)
        for name in ("redis", "redis.b"):
            await database_pool.execute(NOTE.format(transport=f"'{name}'", owner="'a'"))
        await process("a", None, choice=Choice("kafka", None, None, "kafka"), logs={})

    return stand


def names(loss: LogLoss) -> list[str]:
    return [obstacle.name for obstacle in loss.obstacles]


async def test_the_migration_rests_on_the_log_that_is_left(
    steps, process, database_pool, judged, retired
):
    with pytest.raises(NotStarted):
        await judged("redis")
    await steps.machine.adopt(MIRROR, "first")
    await database_pool.execute(NOTE.format(transport="'redis'", owner="'a'"))
    await process("a", None, choice=MIRROR, logs={})
    await process("b", None, choice=LEFT, logs={})
    with pytest.raises(NotRetired, match="in their settings: a"):
        await retired("redis")
    epoch = (await steps.look()).state.epoch
    with pytest.raises(NotRetired):  # it may have started after the look
        await steps.machine.retire_lost(epoch, "redis", used=True, who="op", why="x")
    await process("a", None, choice=LEFT, logs={})
    assert await retired("redis") == "redis.b"
    state = (await steps.look()).state
    assert (state.pair, state.phase, state.target) == (LogPair("redis.b", None), 0, 0)
    assert "redis" not in await used_logs(database_pool)
    assert "burnt" in (await retired_logs(database_pool))["redis"]
    (last, *_) = await history(database_pool)
    assert (last.kind, last.why) == ("retired", "lost redis: burnt")


async def test_a_step_under_way_is_over_and_one_that_is_queued_is_in_the_way(
    steps, process, judged, retired
):
    await steps.machine.adopt(MIRROR, "first")
    await process("a", None, choice=LEFT, logs={})
    state = (await steps.look()).state
    await steps.machine.queue(state.epoch, 3, who="op", why="x", seconds=60, red=[])
    (obstacle,) = (await judged("redis")).obstacles
    assert obstacle.name == "migration"
    state = await steps.machine.cancel(state.epoch + 1, who="op", why="x")
    await steps.machine.begin(state.epoch, 3, who="op", why="x")
    assert await retired("redis") == "redis.b"


async def test_a_log_that_alone_has_the_messages_is_not_given_up(steps, process, judged):
    await steps.machine.adopt(Choice("redis", None, None, "redis"), "first")
    await process("a", None, choice=Choice("kafka", None, None, "kafka"), logs={})
    (obstacle,) = (await judged("redis")).obstacles
    assert "where redis alone has the messages" in obstacle.reason


@pytest.mark.parametrize(
    ("phase", "target", "lost", "left"),
    [
        (1, 1, "redis", "redis.b"),
        (0, 1, "redis", "redis.b"),
        (1, 2, "redis", "redis.b"),
        (2, 1, "redis", "redis.b"),
        (4, 5, "redis.b", "redis"),
    ],
)
async def test_one_is_not_given_up_where_the_other_may_lack_messages_unless_that_is_accepted(
    at, judged, retired, database_pool, phase, target, lost, left
):
    """Its copies are async, or processes of the other phase write no copies."""
    await at(phase, target)
    await database_pool.execute(
        "INSERT INTO shadow_gaps (transport, shadow, noted_by, partition, kind, first_offset,"
        " last_offset, records) VALUES ($1, $2, 'a', 0, 'full', '1-0', '9-0', 9)",
        *(lost, left),
    )
    with pytest.raises(NotRetired):
        await retired(lost)
    loss = await judged(lost)
    assert names(loss) == ["messages"]
    assert "and 9 that were noted as not copied" in loss.obstacles[0].reason
    assert lost in await used_logs(database_pool)
    assert await retired(lost, accept_loss=True) == left
    (last, *_) = await history(database_pool)
    assert "accepted: " in last.why


@pytest.mark.parametrize(
    ("phase", "target", "lost"),
    [(2, 2, "redis"), (2, 3, "redis.b"), (3, 4, "redis"), (4, 5, "redis"), (0, 1, "redis.b")],
)
async def test_one_is_given_up_where_the_other_has_every_message(at, judged, phase, target, lost):
    await at(phase, target)
    assert names(await judged(lost)) == []


async def test_rows_that_may_end_before_the_watermark_are_told(at, judged, database_pool):
    """What was accepted before the mirror was whole is in the lost log alone."""
    await at(2, 2)
    chain = KnownChain(database_pool)
    await chain.begin("redis")
    marks = Marks("R", {0: "5-0"})
    await chain.update(lambda now: now.marked({"redis": marks}, "redis", "redis.b"))
    assert names(await judged("redis")) == ["messages"]
    assert names(await judged("redis", accept_loss=True)) == []
    assert names(await judged("redis.b")) == []
    await chain.update(lambda now: now.opened("redis", "R", {0: "5-0"}, str.encode))
    assert names(await judged("redis")) == []


async def test_the_log_that_is_left_is_read_to_its_end(at, retired, database_pool):
    """Also where not everything of the lost one was persisted: nothing waits for it any more."""
    await at(2, 2)
    chain = KnownChain(database_pool)
    await chain.begin("redis")
    marks = Marks("R", {0: "5-0"})
    await chain.update(lambda now: now.marked({"redis": marks}, "redis", "redis.b"))
    assert await retired("redis", accept_loss=True) == "redis.b"
    await chain.load()
    assert [link.log for link in chain.now.links] == ["redis.b"]
    assert chain.now.is_unbounded("redis.b")


async def test_a_log_that_answers_is_not_lost(at, judged, database_pool, redis_settings):
    await at(5, 5)
    assert names(await judged("redis", redis_settings)) == [], "the server holds no log"
    async with RedisTransport(redis_settings) as log:
        identity = await log.identity()
    loss = await judged("redis", redis_settings, accept_loss=True)
    assert names(loss) == ["answers"]
    insert = "INSERT INTO log_identities (name, identity) VALUES ('redis', $1)"
    await database_pool.execute(insert, identity)
    assert names(await judged("redis", redis_settings)) == ["answers"]
    await database_pool.execute("UPDATE log_identities SET identity = 'the one that burnt'")
    loss = await judged("redis", redis_settings)
    assert (names(loss), loss.asked) == ([], True)
    loss = await judged("redis.b")
    assert not loss.asked, "no settings lead to it"


async def test_a_name_that_was_never_used_is_not_burnt(at, judged, retired, steps, database_pool):
    await at(2, 2)
    for name in ("redis.c", "redis@7"):
        assert names(await judged(name)) == ["name"]
    with pytest.raises(ConfigurationError):
        await judged("kafkaa")
    await database_pool.execute("DELETE FROM fences WHERE transport = 'redis.b'")
    assert await retired("redis.b") == "redis"
    state = (await steps.look()).state
    assert state.pair == LogPair("redis", None)
    await steps.machine.plan(state.epoch, "redis.b", who="op", why="its name is free")


async def test_a_log_of_no_migration_says_nothing_of_the_one_that_is_written(
    at, retired, steps, database_pool
):
    await at(3, 3)
    await database_pool.execute(NOTE.format(transport="'redis.c'", owner="'a'"))
    assert await retired("redis.c") is None
    assert (await steps.look()).state.phase == 3


async def test_it_is_typed_tried_and_done(steps, process, database_pool, database_url, tmp_path):
    await steps.machine.adopt(MIRROR, "first")
    await database_pool.execute(NOTE.format(transport="'redis'", owner="'a'"))
    await process("a", None, choice=MIRROR, logs={})

    async def crossfade(*arguments: str) -> tuple[int, str]:
        await database_pool.execute("UPDATE processes SET seen_at = now()")
        typed = ("retire", "redis", "--lost", "--why", "burnt", *arguments)
        ran = await Crossfade.fork(
            "migrate", *typed, cwd=tmp_path, DATABASE_URL=database_url, REDIS_PORT="1"
        )
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
