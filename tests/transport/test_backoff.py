"""Pauses that grow, are spread, and begin again."""

from __future__ import annotations

import pytest

from transport.backoff import Backoff


def _upper(low: float, high: float) -> float:
    assert low == high / 2, "drawn from the upper half"
    return high


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_success():
    backoff = Backoff(0.1, 0.5, uniform=_upper)
    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next() == 0.1


def test_no_pause_is_longer_than_the_longest():
    assert Backoff(0.1, 0.05, uniform=_upper).next() == 0.05


@pytest.mark.parametrize(("worked", "pause"), [(3.0, 0.4), (3.1, 0.1)])
def test_a_failure_after_a_calm_time_is_new_trouble(worked, pause):
    now = 0.0
    backoff = Backoff(0.1, 5.0, calm=3.0, clock=lambda: now, uniform=_upper)
    now += backoff.next()
    now += backoff.next() + worked
    assert backoff.next() == pytest.approx(pause)


def test_two_processes_do_not_come_back_in_step():
    pauses = {Backoff(1.0, 1.0).next() for _ in range(20)}
    assert len(pauses) > 10
    assert all(0.5 <= pause <= 1.0 for pause in pauses)
