"""A claim that others' records interrupt rests from being handed its own process's."""

from __future__ import annotations

from transport.redis.delivery.rests import Rests


def _interrupted_twice() -> Rests:
    rests = Rests()
    assert not rests.begin(100.0), "a first read may be of what came before"
    assert rests.begin(100.1)
    return rests


def test_a_claim_that_reads_again_soon_rests_for_a_moment() -> None:
    rests = _interrupted_twice()
    assert rests.is_resting
    assert not rests.end(100.14)
    assert rests.end(100.16)
    assert not rests.is_resting
    assert not rests.end(100.2), "once"


def test_what_came_during_a_rest_begins_no_other_rest() -> None:
    rests = _interrupted_twice()
    assert rests.end(100.16)
    assert not rests.begin(100.17), "this came meanwhile"
    assert not rests.is_resting


def test_each_rest_that_follows_soon_is_longer_up_to_two_seconds() -> None:
    rests, now, longest = _interrupted_twice(), 100.1, list[float]()
    for _ in range(8):
        began = now
        while not rests.end(now):
            now += 0.01
        longest.append(now - began)
        rests.begin(now)
        assert rests.begin(now)
    assert longest == sorted(longest)
    assert 1.9 < longest[-1] < 2.1


def test_interruptions_that_are_far_apart_cause_no_rest() -> None:
    rests = Rests()
    assert not any(rests.begin(now) for now in (100.0, 100.6, 101.2, 101.8))
