"""A story's steps stand as they happened, though one of its clocks has milliseconds only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ingress.console.timeline import in_order
from ingress.console.views import Step

_SECOND = "2026-11-24T20:18:19"


def _step(kind: str, fraction: str | None) -> Step:
    at = None if fraction is None else f"{_SECOND}.{fraction}Z"
    return Step(kind=kind, title=kind, at=at)  # type: ignore[arg-type]


@settings(derandomize=True, database=None)
@given(st.permutations(range(5)))
def test_what_came_of_what_decides_within_a_millisecond(order: list[int]) -> None:
    steps = [
        _step("accepted", "683664"),
        _step("appended", "683000"),  # Redis's clock
        _step("attempt", "683201"),
        _step("attempt", "683900"),
        _step("persisted", "683100"),
    ]
    assert in_order(steps[number] for number in order) == steps


def test_other_milliseconds_decide_first_and_what_is_yet_to_come_is_last() -> None:
    steps = [
        _step("accepted", "683664"),
        _step("persisted", "684001"),
        _step("appended", "690000"),  # to the shadow, later
        _step("pending", None),
    ]
    assert in_order(reversed(steps)) == steps
