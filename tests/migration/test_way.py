"""The phases ahead, from wherever a migration stands."""

from __future__ import annotations

import msgspec
import pytest

from migration_guide.way import way_of_plan, way_to
from persistence.fleet.log_choice import FIRST_PAIR, LogPair
from persistence.fleet.migration_state import MigrationState

STATE = MigrationState(
    phase=0, target=0, epoch=1, changed_at="", changed_by="", why="", reached_at="",
    queued=None, pair=FIRST_PAIR,
)  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "target", "log", "ahead", "begun"),
    [
        (0, 0, "kafka", [1, 2, 3, 4, 5], False),
        (3, 3, "kafka", [4, 5], False),
        (3, 3, "redis", [2, 1, 0], False),
        (5, 5, "kafka", [], False),
        (1, 2, "kafka", [3, 4, 5], True),
        (1, 2, "redis", [1, 0], False),
        (2, 1, "kafka", [2, 3, 4, 5], False),
        (2, 1, "redis", [0], True),
        (4, 5, "kafka", [], True),
        (1, 0, "redis", [], True),
    ],
)
def test_the_way_goes_on_from_a_step_that_was_begun(phase, target, log, ahead, begun):
    way = way_to(msgspec.structs.replace(STATE, phase=phase, target=target), log)
    assert way is not None
    assert (way.ahead, way.begun, way.is_over) == (ahead, begun, not ahead and not begun)
    assert [after.number for _, after in way.steps()] == ahead
    assert way.forward == (log == "kafka")


def test_another_log_has_to_be_planned():
    assert way_to(STATE, "redis@32") is None
    assert way_of_plan(LogPair("redis", "redis@32")).ahead == [1, 2, 3, 4, 5]
