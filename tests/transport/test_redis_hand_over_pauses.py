"""A claim that others' records interrupt pauses from being handed its own process's."""

from __future__ import annotations

from transport.redis.delivery.hand_over_pauses import HandOverPauses


def _interrupted_twice() -> HandOverPauses:
    pauses = HandOverPauses()
    assert not pauses.note_read(100.0), "a first read may be of what came before"
    assert pauses.note_read(100.1)
    return pauses


def test_a_claim_that_reads_again_soon_pauses_for_a_moment() -> None:
    pauses = _interrupted_twice()
    assert pauses.is_paused
    assert not pauses.resumes(100.14)
    assert pauses.resumes(100.16)
    assert not pauses.is_paused
    assert not pauses.resumes(100.2), "once"


def test_what_came_during_a_pause_begins_no_other_pause() -> None:
    pauses = _interrupted_twice()
    assert pauses.resumes(100.16)
    assert not pauses.note_read(100.17), "this came meanwhile"
    assert not pauses.is_paused


def test_each_pause_that_follows_soon_is_longer_up_to_two_seconds() -> None:
    pauses, now, longest = _interrupted_twice(), 100.1, list[float]()
    for _ in range(8):
        began = now
        while not pauses.resumes(now):
            now += 0.01
        longest.append(now - began)
        pauses.note_read(now)
        assert pauses.note_read(now)
    assert longest == sorted(longest)
    assert 1.9 < longest[-1] < 2.1


def test_interruptions_that_are_far_apart_cause_no_pause() -> None:
    pauses = HandOverPauses()
    assert not any(pauses.note_read(now) for now in (100.0, 100.6, 101.2, 101.8))
