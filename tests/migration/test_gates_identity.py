"""A name means one log to every process, the one that it always meant."""

from __future__ import annotations

import pytest

from migration_guide.phases import STEPS
from persistence.fleet.log_identities import forget_log, known_identities
from tests.migration.gate_inputs import ask

ONE = {"redis": "R", "kafka": "K"}


@pytest.mark.parametrize(
    ("first", "second", "verdict", "reason"),
    [
        (ONE, ONE, "green", "the same to every process"),
        (ONE, {**ONE, "redis": "other"}, "red", "redis is 2 logs: one of a; one of b"),
        (ONE, {**ONE, "kafka": "R"}, "red", "kafka is 2 logs"),
        ({"redis": "R", "kafka": "R"}, None, "red", "kafka and redis are one log"),
        (ONE, {**ONE, "kafka.eu": "K"}, "red", "kafka and kafka.eu are one log"),
        (ONE, {**ONE, "kafka.eu": None}, "green", "the same to every process"),
        (
            ONE,
            {**ONE, "kafka": None},
            "unknown",
            "these processes have not reported which logs they use: b (serve",
        ),
        (ONE, {"redis": "R"}, "unknown", "use: b (serve"),
        (ONE, None, "unknown", "use: b (serve"),
    ],
)
async def test_identity(scene, process, first, second, verdict, reason):
    await process("a", 1, logs=first)
    await process("b", 1, logs=second)
    result = await ask(await scene(1, 2), "identity")
    assert (result.verdict, reason in result.reason) == (verdict, True), result.reason
    assert (result.remedy is not None) is (verdict == "red"), "a silent process reports in a moment"


def test_every_step_asks_it():
    """A restart may bring another address in any phase, and on the way back."""
    assert [step for step in STEPS if "identity" not in step.gates] == []


async def test_no_process_is_not_every_process_and_a_silent_one_says_nothing(scene, process):
    assert (await ask(await scene(1, 2), "identity")).verdict == "unknown"
    await process("gone", 1, logs={**ONE, "redis": "other"}, silent=20)
    await forget_log((await scene(1, 2)).pool, "redis")
    await process("a", 1, logs=ONE)
    assert (await ask(await scene(1, 2), "identity")).verdict == "green"


async def test_a_name_means_the_log_that_was_met_first_until_it_is_forgotten(
    scene, process, database_pool
):
    await process("a", 1, logs=ONE)
    await process("a", 1, logs={**ONE, "redis": "emptied"})
    assert await known_identities(database_pool) == ONE
    result = await ask(await scene(1, 2), "identity")
    assert result.verdict == "red"
    assert "redis is another log than it was" in result.reason
    assert "crossfade migrate forget-log redis" in result.reason
    assert await forget_log(database_pool, "redis")
    assert not await forget_log(database_pool, "redis")
    await process("a", 1, logs={**ONE, "redis": "emptied"})
    assert (await ask(await scene(1, 2), "identity")).verdict == "green"
    assert (await known_identities(database_pool))["redis"] == "emptied"


async def test_a_log_that_is_no_longer_used_keeps_its_name(scene, process):
    """``kafka`` ended long ago; its server under another name is still the same log."""
    await process("a", 1, logs=ONE)
    await process("a", 0, logs={"redis": "R", "kafka.eu": "K"})
    result = await ask(await scene(0, 1), "identity")
    assert result.verdict == "red"
    assert "kafka and kafka.eu are one log" in result.reason
