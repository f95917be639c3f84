"""``crossfade migrate plan``: what the next migration leads to, and when that can be said."""

from __future__ import annotations

import json

import pytest

from migration_guide.errors import MigrationError, NotAStep, NotPlanned, Overtaken, StepQueued
from migration_guide.planning import plan, planned
from migration_guide.steps import Steps
from persistence.fleet.log_choice import FIRST_PAIR, Choice, LogPair, adopted, choices, phase_of
from persistence.fleet.log_identities import forget_log
from persistence.fleet.migration_state import history, state
from tests.support.crossfade import Crossfade
from tests.support.phases import CHOICES
from transport.errors import ConfigurationError
from transport.existing import must_exist
from transport.registry import create
from transport.settings import TransportSettings

SETTINGS = TransportSettings()
NEXT = LogPair("kafka", "redis@32")


@pytest.fixture
def steps(database_pool) -> Steps:
    return Steps(database_pool, SETTINGS)


async def at_rest(steps: Steps, process, phase: int) -> None:
    await steps.machine.adopt(CHOICES[phase], "first")
    await process("a", phase)


def test_the_last_phase_is_the_first_of_the_next_migration():
    assert choices(FIRST_PAIR)[5] == choices(NEXT)[0]
    assert [phase_of(choice, NEXT) for choice in choices(FIRST_PAIR)] == [None] * 5 + [0]


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (CHOICES[4], (FIRST_PAIR, 4)),
        (Choice("redis@32", None, None, "redis@32"), (LogPair("redis@32", None), 0)),
        (Choice("redis", "redis@32", "sync", "redis@32"), (LogPair("redis", "redis@32"), 3)),
        (Choice("redis", None, None, "kafka"), None),
    ],
)
def test_the_first_process_says_which_migration_there_is(choice, found):
    assert adopted(choice) == found


async def test_a_plan_gives_the_phases_their_meaning_and_changes_no_process(
    steps, process, database_pool
):
    await at_rest(steps, process, 5)
    made = await planned(await steps.look(), "redis@32", SETTINGS)
    assert (made.pair, made.partitions) == (NEXT, {"kafka": 16, "redis@32": 32})
    after = await plan(steps, made, who="op", why="grow")
    look = await steps.look()
    assert (after.phase, after.target, after.pair) == (0, 0, NEXT)
    assert [process.phase for process in look.processes] == [0]
    (last, *_) = await history(database_pool)
    assert (last.kind, last.from_phase, last.to_phase, last.pair) == ("planned", 5, 0, NEXT)
    with pytest.raises(Overtaken):
        await plan(steps, made, who="other", why="me too")
    with pytest.raises(NotAStep, match="kafka is the first one"):
        steps.next_step(after, forward=False)


async def test_another_plan_takes_the_place_of_one_that_was_not_begun(steps, process):
    await at_rest(steps, process, 0)
    for new in ("redis@32", "redis@64"):
        made = await planned(await steps.look(), new, SETTINGS)
        assert (await plan(steps, made, who="op", why="x")).pair == LogPair("redis", new)


@pytest.mark.parametrize("phase", [1, 2, 3, 4])
async def test_nothing_is_planned_where_two_logs_are_in_use(steps, process, phase):
    await at_rest(steps, process, phase)
    with pytest.raises(NotAStep, match=f"stands at phase {phase}"):
        await planned(await steps.look(), "redis@32", SETTINGS)


async def test_nothing_is_planned_during_a_step_or_before_one_that_waits(steps, process):
    await at_rest(steps, process, 0)
    queued = await steps.machine.queue(1, 1, who="op", why="x", seconds=60, red=["processes"])
    with pytest.raises(StepQueued):
        await planned(await steps.look(), "redis@32", SETTINGS)
    cancelled = await steps.machine.cancel(queued.epoch, who="op", why="x")
    await steps.machine.begin(cancelled.epoch, 1, who="op", why="x")
    with pytest.raises(NotAStep, match="between phases 0 and 1"):
        await planned(await steps.look(), "redis@32", SETTINGS)


@pytest.mark.parametrize(
    ("new", "error", "says"),
    [
        ("redis", NotPlanned, "written and read now"),
        ("rabbit", ConfigurationError, "'rabbit' is not a transport"),
        ("redis@0", ConfigurationError, "not the name of a log"),
        ("memory", ConfigurationError, "a log within one process, and ends with it"),
    ],
)
async def test_a_log_that_cannot_be_migrated_to_is_named(steps, process, new, error, says):
    await at_rest(steps, process, 0)
    with pytest.raises(error, match=says):
        await planned(await steps.look(), new, SETTINGS)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE processes SET phase = 0", "of a version that knows .* only: a "),
        ("UPDATE processes SET seen_at = now() - interval '20 s'", "not heard of: a "),
        ("UPDATE processes SET transport_shadow = 'kafka'", "not on phase 0: a "),
        ("DELETE FROM processes", "no process says that it runs"),
    ],
)
async def test_a_process_that_would_not_understand_stands_in_the_way(
    steps, process, database_pool, sql, says
):
    """Beside an old version its phase 1 would be another one than ours."""
    await at_rest(steps, process, 0)
    await database_pool.execute(sql)
    with pytest.raises(MigrationError, match=says):
        await planned(await steps.look(), "redis@32", SETTINGS)


async def test_it_is_typed_seen_and_led_to_the_first_step(
    steps, process, database_pool, database_url, tmp_path
):
    await steps.machine.adopt(Choice("redis@32", None, None, "redis@32"), "first")

    async def crossfade(*arguments: str) -> tuple[int, str]:
        await database_pool.execute("UPDATE processes SET seen_at = now()")
        ran = await Crossfade.fork("migrate", *arguments, cwd=tmp_path, DATABASE_URL=database_url)
        return await ran.ends(), ran.text

    await process("a", None, choice=Choice("redis@32", None, None, "redis@32"))
    status, text = await crossfade("check")
    assert status == 1
    assert "crossfade migrate plan --to LOG" in text
    status, text = await crossfade("plan", "--to", "redis@64", "--why", "grow", "--dry-run")
    assert status == 0
    assert "redis@32 has 32, redis@64 has 64" in text
    assert (await state(database_pool)).pair.new is None, "it was a dry run"
    status, text = await crossfade(
        "plan", "--to", "redis@64", "--why", "grow", "--yes", "--json"
    )  # fmt: skip
    told = json.loads(text)
    assert (told["from"], told["to"], told["planned"]) == ("redis@32", "redis@64", True)
    assert told["inserters"] == 64
    assert told["phases"][4]["TRANSPORT_SHADOW"] == "redis@32"
    status, text = await crossfade("status")
    assert status == 0
    assert "from redis@32 to redis@64" in text
    assert (await crossfade("check"))[0] == 0


@pytest.fixture
def on(new_redis):
    """Make settings of a Redis of its own."""

    async def make() -> TransportSettings:
        server = await new_redis()
        return TransportSettings(redis_host=server.host, redis_port=server.port)

    return make


async def _made(name: str, settings: TransportSettings) -> str:
    """Make the log, as a process does; return its identity."""
    async with create(name, settings) as log:
        return await log.identity()


async def test_a_name_means_one_log_until_it_is_forgotten(steps, process, database_pool, on):
    """I4: positions of rows, fences and reports of the name are of the log that was there."""
    here, there = await on(), await on()
    await at_rest(steps, process, 0)
    await planned(await steps.look(), "redis@32", here)
    with pytest.raises(ConfigurationError, match="holds no log"):
        await must_exist("redis@32", here)  # to plan makes nothing
    identity = await _made("redis@32", here)
    await process("a", 0, logs={"redis": "R", "redis@32": identity})
    await planned(await steps.look(), "redis@32", here)
    with pytest.raises(NotPlanned, match=r"holds no log.*crossfade migrate forget-log redis@32"):
        await planned(await steps.look(), "redis@32", there)
    await _made("redis@32", there)
    with pytest.raises(NotPlanned, match=r"holds another log.*a label"):
        await planned(await steps.look(), "redis@32", there)
    assert await forget_log(database_pool, "redis@32")
    await planned(await steps.look(), "redis@32", there)


async def test_a_log_has_one_name(steps, process, on):
    here = await on()
    identity = await _made("redis@32", here)
    await steps.machine.adopt(CHOICES[0], "first")
    await process("a", 0, logs={"redis": "R", "redis@32": identity, "redis.eu@32": None})
    with pytest.raises(NotPlanned, match=r"redis\.eu@32 is the same log as redis@32"):
        await planned(await steps.look(), "redis.eu@32", here.with_labels({"eu": here}))


async def test_a_label_is_known_to_every_process_first(steps, process):
    settings = SETTINGS.with_labels({"eu": SETTINGS.model_copy(update={"redis_port": 1})})
    await at_rest(steps, process, 0)
    await process("b", 0, logs={"redis": "R", "redis.eu": None})
    with pytest.raises(NotPlanned, match=r"unknown to a \(.*OTHER_LOGS=redis.eu@32"):
        await planned(await steps.look(), "redis.eu@32", settings)
    await process("a", 0, logs={"redis": "R", "redis.eu": None})
    await planned(await steps.look(), "redis.eu@32", settings)


@pytest.mark.parametrize(("count", "inserters"), [(32, 32), (24, 24), (100, 20), (17, 1)])
async def test_it_says_how_many_insert_at_once(steps, process, count, inserters):
    await at_rest(steps, process, 0)
    made = await planned(await steps.look(), f"redis@{count}", SETTINGS)
    assert made.inserters == inserters


async def test_a_log_that_does_not_answer_can_be_planned_and_is_told(steps, process):
    await at_rest(steps, process, 0)
    nowhere = SETTINGS.model_copy(update={"redis_host": "127.0.0.1", "redis_port": 1})
    made = await planned(await steps.look(), "redis@32", nowhere)
    assert made.unreached is not None
    assert "Redis can't be reached" in made.unreached
