"""``crossfade migrate run`` as it is typed: which steps it takes, what it waits for, what ends it.

The processes are rows, which are heard of again and again, as processes are.
"""

from __future__ import annotations

import json
import signal

import pytest

from persistence.fleet.migration_state import state
from tests.migration.gate_inputs import GAP
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.phases import CHOICES

pytestmark = pytest.mark.usefixtures("heard_of")


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
