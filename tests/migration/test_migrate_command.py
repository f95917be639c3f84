"""``crossfade migrate`` as it is typed: what it says, what it exits with, what it leaves behind.

The processes are rows, which are heard of again and again, as processes are.
"""

from __future__ import annotations

import asyncio
import json
import signal

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
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.phases import CHOICES

GAP = """
INSERT INTO shadow_gaps (transport, shadow, partition, kind, records, noted_by, noted_at)
VALUES ('redis', 'kafka', 3, 'full', 79, 'a', clock_timestamp())
"""


@pytest.fixture(autouse=True)
async def heard_of(database_pool):
    """Let every process be heard of each second, but those that a test made silent (20 s)."""
    heard = "UPDATE processes SET seen_at = now() WHERE seen_at > now() - interval '15 s'"

    async def beat() -> None:
        while True:
            await database_pool.execute(heard)
            await asyncio.sleep(1)

    beating = asyncio.create_task(beat())
    yield
    beating.cancel()
    await asyncio.wait([beating])


@pytest.fixture
def crossfade(tmp_path, database_url):
    """Run ``crossfade migrate ARGUMENTS`` against the test's database."""
    started = []

    async def start(
        *arguments: str, typed: bool = False, terminal: bool = False, **more: str
    ) -> Crossfade:
        settings = {"DATABASE_URL": database_url, **more}
        arguments = ("migrate", *arguments)
        if typed:
            one = await Crossfade.start(*arguments, cwd=tmp_path, typed=True, **settings)
        elif terminal:
            one = await Crossfade.start_in_terminal(*arguments, cwd=tmp_path, **settings)
        else:
            one = await Crossfade.fork(*arguments, cwd=tmp_path, **settings)
        started.append(one)
        return one

    return start


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


async def test_a_run_says_as_json_which_gate_stayed_red(crossfade, process, state_machine):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0, logs={})
    run = ("run", "--to", "kafka", "--why", "x", "--yes", "--json", "--patience", "0")
    ended = await crossfade(*run)
    assert await ended.ends() == 4
    told = json.loads(ended.text[ended.text.index('{\n  "from"') :])
    step = told.pop("step")
    assert told == {
        "from": "redis", "to": "kafka", "phases": [0, 1, 2, 3, 4, 5], "ended": "refused",
    }  # fmt: skip
    assert (step["from"], step["to"]) == (0, 1)
    assert {gate["name"]: gate["verdict"] for gate in step["gates"]} == {
        "processes": "green", "identity": "unknown",
    }  # fmt: skip
    queued = await crossfade("advance", "--why", "x", "--yes", "--json", "--queue", "1")
    assert await queued.ends() == 4
    told = json.loads(queued.text[queued.text.index('{\n  "from"') :])
    assert (told["taken"], told["ended"]) == (False, "refused")


async def test_a_gate_that_waiting_cannot_turn_green_ends_the_run_at_once(
    crossfade, process, state_machine, database_pool
):
    """Only a backfill closes the gaps of a shadow, and the run is what waits for it."""
    nowhere = {"REDIS_PORT": "1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    await state_machine.adopt(CHOICES[2], "first")
    await process("a", 2)
    await database_pool.execute(GAP)
    run = ("run", "--to", "kafka", "--why", "x", "--yes", "--patience", "30")
    ended = await crossfade(*run, **nowhere)
    assert await ended.ends() == 1, ended.text
    assert "refused: dropped is red: kafka was not given 79 messages" in ended.text
    assert "'crossfade migrate backfill'" in ended.text
    assert (await state(database_pool)).queued is None, "it never waited"
    queued = await crossfade("advance", "--why", "x", "--yes", "--queue", "30", **nowhere)
    assert await queued.ends() == 1, queued.text
    assert "refused: dropped is red" in queued.text
    as_json = await crossfade(*run, "--json", **nowhere)
    assert await as_json.ends() == 1
    told, _ = json.JSONDecoder().raw_decode(
        as_json.text[as_json.text.index('{\n  "from": "redis"') :]
    )
    remedies = {gate["name"]: gate["remedy"] for gate in told["step"]["gates"]}
    assert remedies["dropped"] == "'crossfade migrate backfill' appends them"
    assert remedies["processes"] is None


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


async def test_a_run_that_another_operator_overtakes_ends(
    crossfade, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    run = await crossfade("run", "--to", "kafka", "--why", "x", typed=True)
    await run.says("0 redis -> 1 shadow")  # then it asks
    begun = await state_machine.begin(1, 1, who="other", why="me too")
    await process("a", 1)
    await state_machine.complete(begun.epoch, who="other")
    await run.types("y\n")
    assert await run.ends() == 1
    assert "overtaken: somebody took another step meanwhile" in run.text
    assert (await state(database_pool)).target == 1


async def test_two_runs_do_not_restart_the_processes_at_once(
    crossfade, process, state_machine, tmp_path
):
    """The second one finds a step under way, as after an interruption, but the first one is there.

    Two commands at once would take down two processes of a group that is restarted one by one.
    """
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    ran, end = tmp_path / "ran", tmp_path / "end"
    restart = f"echo x >> {ran}; until test -e {end}; do sleep 0.1; done"
    run = ("run", "--to", "kafka", "--why", "x", "--yes", "--timeout", "1", "--rolling", restart)
    first = await crossfade(*run)
    await eventually(ran.exists)
    second = await crossfade(*run)
    assert await second.ends() == 1
    assert "another run of this command is at work" in second.text
    end.touch()
    assert await first.ends() == 4, first.text
    assert ran.read_text() == "x\n"
    again = await crossfade(*run)
    assert await again.ends() == 4, again.text
    assert "not yet: the same command goes on from here" in again.text
    assert ran.read_text() == "x\nx\n", "it goes on with the step that is under way"


async def test_a_run_waits_for_the_first_process_to_say_what_it_runs(
    crossfade, process, state_machine
):
    run = await crossfade("run", "--to", "kafka", "--why", "x", "--dry-run")
    await run.says("waiting: no process")
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    assert await run.ends() == 0, run.text
    assert "0 redis -> 1 shadow" in run.text


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_run_waits_for_its_restart_command_when_it_is_interrupted(
    crossfade, process, state_machine, tmp_path, number
):
    """The command would go on, and the next one would begin beside it."""
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    hook = "touch begun; until [ -e go ]; do sleep 0.1; done; touch ended"
    taken = await crossfade("run", "--to", "kafka", "--why", "x", "--yes", "--rolling", hook)
    await eventually((tmp_path / "begun").exists)
    taken.process.send_signal(number)
    await taken.says("waiting for the command that restarts the processes")
    (tmp_path / "go").touch()
    assert await taken.ends() == 130
    assert (tmp_path / "ended").exists()
    assert "The same command goes on from there" in taken.text
    assert "Traceback" not in taken.text


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


async def test_run_in_a_closed_terminal_waits_for_its_restart_command(
    crossfade, process, state_machine, tmp_path
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    hook = "trap '' HUP; touch begun; until [ -e go ]; do sleep 0.1; done; touch ended"
    options = ("--to", "kafka", "--why", "x", "--yes", "--rolling", hook)
    taken = await crossfade("run", *options, terminal=True)
    await eventually((tmp_path / "begun").exists)
    taken.hang_up()
    (tmp_path / "go").touch()
    assert await taken.ends() == 130
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize(
    ("at", "goal", "to", "turns"), [(1, "redis", 0, "advance"), (0, "kafka", 1, "rollback")]
)
async def test_the_command_that_is_named_turns_the_step_back(
    crossfade, process, state_machine, database_pool, at, goal, to, turns
):
    """A step that leads back is turned back by a step forward."""
    await state_machine.adopt(CHOICES[at], "first")
    await process("a", at)
    run = ("run", "--to", goal, "--why", "x", "--yes", "--rolling", "exit 3")
    for _ in ("begun", "gone on with"):
        failed = await crossfade(*run)
        assert await failed.ends() == 1
        assert f"turn the step back with 'crossfade migrate {turns} --why ...'" in one_line(failed)
    onwards = "rollback" if turns == "advance" else "advance"
    refused_step = await crossfade(onwards, "--why", "x", "--yes", "--no-wait")
    assert await refused_step.ends() == 1
    assert f"'crossfade migrate {turns} --why ...' turns it back" in one_line(refused_step)
    turned = await crossfade(turns, "--why", "x", "--yes", "--no-wait")
    assert await turned.ends() == 0
    now = await state(database_pool)
    assert (now.phase, now.target) == (to, at)


def one_line(command: Crossfade) -> str:
    return " ".join(command.text.split())
