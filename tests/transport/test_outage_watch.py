"""Failures and successes in turn are one outage, until calls have succeeded for a while."""

from __future__ import annotations

import pytest

from transport.outage_watch import OutageWatch, PastOutage


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def watch(clock: _Clock) -> OutageWatch:
    return OutageWatch(clock)


def test_nothing_is_over_where_nothing_failed(watch: OutageWatch) -> None:
    assert watch.succeeded() is None


def test_calls_that_fail_and_succeed_in_turn_are_one_outage(
    watch: OutageWatch, clock: _Clock
) -> None:
    begun = []
    for _ in range(20):
        begun.append(watch.failed(3))
        clock.now += 4.0
        assert watch.succeeded() is None
        clock.now += 4.0
        assert watch.succeeded() is None
    assert begun == [True] + [False] * 19
    clock.now += 5.9
    assert watch.succeeded() is None
    clock.now += 0.1
    assert watch.succeeded() == PastOutage(seconds=19 * 8.0, failures=60)
    assert watch.succeeded() is None
    assert watch.failed()


def test_an_outage_without_calls_goes_on(watch: OutageWatch, clock: _Clock) -> None:
    assert watch.failed()
    clock.now += 3600.0
    assert not watch.failed()
    clock.now += 3600.0
    assert watch.succeeded() is None  # it may be one success between two failures


def test_an_outage_is_ongoing_until_calls_have_succeeded_for_a_while(
    watch: OutageWatch, clock: _Clock
) -> None:
    assert watch.ongoing() is None
    watch.failed()
    clock.now += 30.0
    watch.failed()
    clock.now += 3600.0
    assert watch.ongoing() == (100.0, 130.0)
    watch.succeeded()
    clock.now += 9.0
    assert watch.ongoing() == (100.0, 130.0)
    clock.now += 1.0
    assert watch.ongoing() is None, "no call has to come to say so"


def test_a_failure_long_after_the_last_success_is_another_outage(
    watch: OutageWatch, clock: _Clock
) -> None:
    assert watch.failed(5)
    clock.now += 1.0
    assert watch.succeeded() is None
    clock.now += 60.0
    assert watch.failed(2)
    clock.now += 1.0
    assert watch.succeeded() is None
    clock.now += 10.0
    assert watch.succeeded() == PastOutage(seconds=0.0, failures=2)
