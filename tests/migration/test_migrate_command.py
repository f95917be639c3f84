"""``crossfade migrate`` as it is typed: what it says, what it exits with, what it leaves behind.

The processes are rows, which are heard of again and again, as processes are.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from structlog.testing import capture_logs
from typer import BadParameter

from compose.commands.migrate.reasons import GateReasons, reasons_by_phase
from compose.commands.migrate.waiting import Ended, see_through
from ingress.console.sampler import Sampler
from migration_guide.expectation import Expectation, MigrationMetrics
from migration_guide.gates.result import GateResult
from migration_guide.steps import passed, refused, way_on
from persistence import migrate
from persistence.fleet.log_choice import Choice
from persistence.fleet.migration_state import history, state
from persistence.operator_actions import Actions
from tests.migration.gate_inputs import GAP
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.phases import CHOICES

pytestmark = pytest.mark.usefixtures("heard_of")


async def test_a_step_is_taken_and_complete_when_the_last_process_has_come(
    crossfade, process, state_machine, database_pool
):
    none = await crossfade("status")
    assert await none.ends() == 1
    assert "start the service first" in none.text
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    await process("b", 0)
    step = await crossfade("advance", "--why", "try it", "--yes", "--timeout", "60")
    await step.says("TRANSPORT=redis TRANSPORT_SHADOW=kafka TRANSPORT_SHADOW_MODE=async")
    await process("a", 1)
    refused = await crossfade("advance", "--why", "hurry", "--yes")
    assert await refused.ends() == 1
    assert "under way" in refused.text
    assert "'crossfade migrate status' shows them" in refused.text
    begun = await crossfade("status", "--wide")
    assert await begun.ends() == 0
    assert "Every process on 1 shadow? red: not on phase 1: b (serve, phase 0)" in begun.text
    settings = "TRANSPORT=redis TRANSPORT_SHADOW=kafka TRANSPORT_SHADOW_MODE=async"
    assert f"Its settings: {settings} CONSUME_FROM=redis" in begun.text
    await process("b", 1)
    assert await step.ends() == 0
    assert "complete: every process is on phase 1 shadow" in step.text
    shown = await crossfade("status", "--json")
    assert await shown.ends() == 0
    told = json.loads("\n".join(shown.lines))
    assert (told["state"]["phase"], told["under_way"], len(told["processes"])) == (1, False, 2)
    assert [event.kind for event in await history(database_pool)] == [
        "completed", "begun", "adopted",
    ]  # fmt: skip


async def test_it_refuses_by_name_and_exits_by_verdict(crossfade, process, state_machine):
    await state_machine.adopt(CHOICES[0], "first")
    await process("good", 0)
    await process("laggard", 5)
    for option in ("--overrule", "--accept-unknown"):
        never = await crossfade("advance", "--why", "x", "--yes", option, "processes=please")
        assert await never.ends() == 2
        assert "'processes' is no gate that can be" in never.text
    red = await crossfade("advance", "--why", "x", "--yes")
    assert await red.ends() == 1
    assert "laggard (serve, phase 5)" in red.text
    assert "at your own risk" not in red.text, "nobody can"
    await process("laggard", 0, silent=20)
    unknown = await crossfade("check", "--json")
    assert await unknown.ends() == 3
    forget = await crossfade("forget", "laggard", "--why", "the machine burnt", "--yes")
    assert await forget.ends() == 0
    assert await (await crossfade("check")).ends() == 0
    blank = await crossfade("forget", "good", "--why", " ", "--yes")
    assert await blank.ends() == 2
    for sure in ((), ("--yes",)):
        missing = await crossfade("forget", "good", "--why", "x", *sure)
        assert await missing.ends() == 1
        assert "no process good is missing" in missing.text
        assert "really gone" not in missing.text, "nothing is asked"
    assert await (await crossfade("rollback", "--why", "x", "--yes")).ends() == 1


@pytest.mark.parametrize(
    ("results", "options"),
    [
        ([("start", "unknown")], ["--accept-unknown start='the reason'"]),
        (
            [("parity", "red"), ("watermark", "unknown")],
            ["--overrule parity='the reason'", "--accept-unknown watermark='the reason'"],
        ),
        ([("parity", "red"), ("start", "red")], []),
        ([("processes", "unknown")], []),
    ],
)
def test_a_refusal_names_the_way_on_where_there_is_one(results, options):
    assert way_on([GateResult(name, verdict, "") for name, verdict in results]) == options


async def test_gates_are_accepted_one_by_one_and_each_is_an_action_on_record(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[3], "first")
    await process("a", 3)
    nowhere = {"REDIS_PORT": "1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    back = ("rollback", "--why", "kafka is down", "--yes", "--no-wait")
    watermark = ("--accept-unknown", "watermark=redis has everything")
    some = await crossfade(*back, *watermark, **nowhere)
    assert await some.ends() == 3
    assert "start is unknown" in some.text
    assert "watermark is unknown" not in some.text
    twice = await crossfade(*back, *watermark, *watermark, **nowhere)
    assert await twice.ends() == 2
    assert "watermark is named twice" in twice.text
    taken = await crossfade(*back, *watermark, "--accept-unknown", "start=it kept it", **nowhere)
    assert await taken.ends() == 0, taken.text
    actions = await Actions(database_pool).recent()
    assert [(action.action, action.target, action.why) for action in actions] == [
        ("accept unknown gate", "gate start, step from phase 3 to 2", "it kept it"),
        ("accept unknown gate", "gate watermark, step from phase 3 to 2", "redis has everything"),
    ]
    assert all(action.result.startswith("passed; it was unknown: ") for action in actions)
    assert all(action.finished_at for action in actions)


async def test_a_gate_that_turns_red_before_the_answer_stops_the_step(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    step = await crossfade("advance", "--why", "x", "--no-wait", typed=True)
    await step.says("0 redis -> 1 shadow")
    await process("laggard", 5)
    await step.types("y\n")
    assert await step.ends() == 1
    assert "laggard (serve, phase 5)" in step.text
    assert (await state(database_pool)).target == 0
    await database_pool.execute("DELETE FROM processes WHERE member = 'laggard'")
    again = await crossfade("advance", "--why", "x", "--no-wait", typed=True)
    await again.says("0 redis -> 1 shadow")
    await again.types("y\n")
    assert await again.ends() == 0, again.text
    assert (await state(database_pool)).target == 1


def test_what_is_accepted_as_unknown_is_not_accepted_when_it_turns_red():
    unknown, red = GateResult("parity", "unknown", ""), GateResult("parity", "red", "")
    why = {"parity": "x"}
    assert refused([unknown], accepted=why, overridden={}) == []
    assert refused([red], accepted=why, overridden={}) == [red]
    assert refused([unknown, red], accepted={}, overridden=why) == []
    assert passed([red], accepted=why, overridden={"parity": "y"}) == {"parity": "y"}


async def test_a_queued_step_waits_is_seen_and_can_be_cancelled_or_goes_on(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 1)

    async def queued():
        found = await state(database_pool)
        return found.queued if found else None

    waiting = await crossfade("advance", "--why", "x", "--yes", "--queue", "60", "--no-wait")
    assert (await eventually(queued)).red == ["processes"]
    assert await (await crossfade("cancel", "--why", "not today")).ends() == 0
    assert await waiting.ends() == 1
    assert "somebody changed the migration" in waiting.text
    again = await crossfade("advance", "--why", "x", "--yes", "--queue", "60", "--no-wait")
    await eventually(queued)
    await process("a", 0)
    assert await again.ends() == 0
    assert (await state(database_pool)).target == 1
    late = await crossfade("rollback", "--why", "x", "--yes", "--no-wait")
    assert await late.ends() == 0, "turned back"
    assert (await state(database_pool)).target == 0


@pytest.mark.parametrize(
    ("choice", "unexpected"),
    [
        (CHOICES[1], False),
        (CHOICES[2], False),
        (CHOICES[0], True),
        (CHOICES[5], True),
        (Choice("memory", None, None, "memory"), True),
    ],
)
async def test_settings_changed_by_hand_are_said_once_and_seen(
    state_machine, database_pool, metrics, choice, unexpected
):
    await state_machine.adopt(CHOICES[1], "first")
    moving = await state_machine.begin(1, 2, who="op", why="x")
    with capture_logs() as said:
        expectation = Expectation(choice, metrics)
        for _ in range(3):
            expectation.compare(moving)
    assert len(said) == (1 if unexpected else 0)
    assert value_of(metrics.of(MigrationMetrics).unexpected_settings) == (1 if unexpected else 0)
    assert (
        value_of(metrics.of(MigrationMetrics).phase),
        value_of(metrics.of(MigrationMetrics).target),
    ) == (1, 2)
    if unexpected:
        assert "order" in said[0]["event"]
        assert "TRANSPORT_SHADOW_MODE=sync" in said[0]["remedy"]


async def test_watch_completes_a_step_shows_it_and_ends_at_ctrl_c(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    nowhere = {"REDIS_PORT": "1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    in_a_pipe = await crossfade("watch", **nowhere)
    await in_a_pipe.says("phase 0 redis")
    assert await in_a_pipe.interrupt() == 130
    # Drawn over and over as in a terminal, although it is read from a pipe.
    watched = await crossfade("watch", TTY_COMPATIBLE="1", **nowhere)
    await watched.says("phase 0 redis")
    begun = await state_machine.begin(1, 1, who="op", why="go")
    await process("a", 1)

    async def complete() -> bool:
        return (await state(database_pool)).phase == 1

    await eventually(complete)
    assert (await state(database_pool)).epoch == begun.epoch + 1

    await watched.says("phase 1 shadow")
    await watched.says("1 shadow -> 2 mirror")
    assert await watched.interrupt() == 130
    assert "Traceback" not in watched.text


async def test_a_step_that_every_process_took_is_over_for_those_who_look(
    crossfade, process, state_machine, database_pool
):
    """``--no-wait`` leaves it to another command to record that."""
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    began = await crossfade("advance", "--why", "x", "--yes", "--no-wait")
    assert await began.ends() == 0, began.text
    waits = await crossfade("check")
    assert await waits.ends() == 1
    assert "under way" in waits.text
    await process("a", 1)
    shown = await crossfade("check", "--json")
    await shown.ends()
    told = json.loads(shown.text)
    assert (told["from"], told["to"]) == (1, 2)
    assert (await state(database_pool)).under_way, "it changes nothing"


async def test_a_step_that_was_turned_back_is_not_taken_for_complete(
    crossfade, process, state_machine
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    step = await crossfade("advance", "--why", "x", "--yes")
    await step.says("TRANSPORT_SHADOW=kafka")
    await state_machine.begin(2, 0, who="other", why="no")
    assert await step.ends() == 1, step.text
    assert "overtaken: other took another step meanwhile" in step.text


async def test_a_gate_that_turns_so_meanwhile_ends_the_wait(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 1)
    waiting = await crossfade("advance", "--why", "x", "--yes", "--queue", "60")

    async def queued():
        found = await state(database_pool)
        return found.queued if found else None

    assert (await eventually(queued)).red == ["processes"]
    await process("b", 0, logs={"redis": "another log"})
    assert await waiting.ends() == 1, waiting.text
    assert "refused: identity is red: redis is 2 logs" in waiting.text
    assert "refused: processes is red" in waiting.text, "each gate in the way is named"
    assert (await state(database_pool)).queued is None


async def test_the_status_names_what_the_mirror_is_missing(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[2], "first")
    await process("a", 2)
    shown = await crossfade("status")
    assert await shown.ends() == 0
    assert "is missing" not in shown.text
    await database_pool.execute(GAP)
    shown = await crossfade("status")
    assert await shown.ends() == 0
    assert "kafka is missing 79 messages that redis has (partition 3)" in shown.text
    assert "`crossfade migrate backfill` appends them" in shown.text
    as_json = await crossfade("status", "--json")
    await as_json.ends()
    assert json.loads(as_json.text)["missing"] == {"records": 79, "partitions": [3]}


async def test_the_health_of_the_service_names_it_too(process, state_machine, database_pool):
    await state_machine.adopt(CHOICES[2], "first")
    await process("a", 2)
    await database_pool.execute(GAP)
    sampler = Sampler([], database_pool, seen_by="test")
    (alarm,) = [each for each in (await sampler.status()).health if each.level == "alarm"]
    assert alarm.text == "kafka is missing 79 messages that redis has (partition 3)."


async def test_beside_an_older_schema_it_says_what_to_do(crossfade, database_url):
    await migrate.downgrade(database_url, "0013")
    for command in (("status",), ("run", "--to", "kafka", "--why", "x", "--yes")):
        ended = await crossfade(*command)
        assert await ended.ends() == 1
        assert "crossfade db upgrade" in ended.text
    await migrate.upgrade(database_url)


def test_a_reason_is_for_the_step_to_one_phase():
    reasons = reasons_by_phase(["3:start=I looked", "4:parity=x"], ["3:durability=one node"])
    assert reasons == {
        3: GateReasons({"start": "I looked"}, {"durability": "one node"}),
        4: GateReasons({"parity": "x"}, {}),
    }
    red = GateResult("durability", "red", "")
    assert reasons[3].in_the_way([red]) == []
    assert reasons[4].in_the_way([red]) == [red]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("durability=one node", "in the step to which phase, as 3:durability="),
        ("9:durability=x", "in the step to which phase"),
        ("1:durability=x", "no step to phase 1 asks the gate durability"),
        ("3:start=x", "'start' is no gate that can be overruled"),
        ("3:parity=", "say why"),
    ],
)
def test_a_reason_without_its_step_is_refused(given, says):
    with pytest.raises(BadParameter, match=says):
        reasons_by_phase(None, [given])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("plan", "--to", "Redis@32", "--why", "x"), "--to='Redis@32'"),
        (("run", "--to", "rabbit", "--why", "x"), "--to='rabbit'"),
        (("retire", "rabbit", "--why", "x"), "LOG='rabbit'"),
        (("backfill", "--source", "rabbit"), "--source='rabbit'"),
        (("backfill", "--into", "redis@0"), "--into='redis@0'"),
        (("parity", "--shadow", "rabbit"), "--shadow='rabbit'"),
    ],
)
async def test_what_is_no_log_is_refused_by_the_option_that_named_it(crossfade, command, name):
    refused = await crossfade(*command)
    assert await refused.ends() == 2
    assert f"error: {name} is not " in refused.text


async def test_a_log_that_no_process_met_is_not_asked_about(crossfade):
    refused = await crossfade("forget-log", "rabbit", "--why", "x")
    assert await refused.ends() == 1
    assert refused.text == "error: no process ever met a log called rabbit"


async def test_a_step_that_is_interrupted_says_that_it_is_under_way(
    crossfade, process, state_machine
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    # Drawn as in a terminal, although it is read from a pipe.
    step = await crossfade("advance", "--why", "x", "--yes", TTY_COMPATIBLE="1")
    await step.says("waiting: not on phase 1")
    assert await step.interrupt() == 130
    assert "the step is under way, and 'crossfade migrate watch'" in step.text


async def test_a_step_says_why_it_waits_where_nobody_watches_it(
    process, state_machine, database_url, monkeypatch, capfd
):
    """A restart command that restarts nothing may end well. Only these lines tell it then."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    begun = await state_machine.begin(1, 1, who="me", why="x")
    waiting = asyncio.create_task(
        see_through(who="me", to=1, timeout=None, goes_on="it", told_every=0.1)
    )
    said = ""

    async def told_twice() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return said.count("waiting: not on phase 1: a (serve, phase 0)") >= 2

    await eventually(told_twice)
    await state_machine.begin(begun.epoch, 0, who="other", why="no")
    assert await waiting is Ended.OVERTAKEN


async def test_a_closed_terminal_takes_a_queued_step_away(
    crossfade, process, state_machine, database_pool
):
    """The command can't write its last words, and takes the step away all the same."""
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 5)

    async def queued():
        return (await state(database_pool)).queued

    waits = await crossfade("advance", "--why", "x", "--yes", "--queue", "60", terminal=True)
    await eventually(queued)
    await waits.says("s left")
    waits.hang_up()
    assert await waits.ends() == 130
    assert not await queued()
