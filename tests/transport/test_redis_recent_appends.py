"""What a process keeps of its appends is bounded, and the oldest goes first."""

from __future__ import annotations

from transport.contract import Appended, Envelope, Remembered
from transport.redis.rescue.recent_appends import RecentAppends, RecentAppendsBudget

_MIB = 2**20


def _add(recent: RecentAppends, text: str, *, size: int = 12 * _MIB) -> None:
    envelope = Envelope(text, 0, "key", b"x" * size, {}, event="decoded")
    recent.add([envelope], [Appended("1-0")], remember=True)


def _kept(recent: RecentAppends) -> list[str]:
    return [it.envelope.message_id for some in recent.by_partition().values() for it in some]


def test_the_oldest_goes_whatever_partition_it_is_of() -> None:
    """A shard that is away keeps what it had last, and takes nothing from the others for long."""
    budget = RecentAppendsBudget()
    away, other = RecentAppends(10.0, budget), RecentAppends(10.0, budget)
    _add(away, "oldest")
    _add(away, "older")
    _add(other, "new")
    assert (_kept(away), _kept(other)) == (["older"], ["new"])
    _add(other, "newest")
    assert (_kept(away), _kept(other)) == ([], ["new", "newest"])


def test_what_a_rescue_has_yet_to_append_is_not_dropped_for_what_it_appended() -> None:
    recent = RecentAppends(10.0)
    _add(recent, "own")
    _add(recent, "own, too")
    recent.hold()
    for text in ("another's", "a third one's", "again"):
        _add(recent, text)
    assert _kept(recent) == ["own", "own, too", "a third one's", "again"]
    recent.let_go()
    assert _kept(recent) == ["a third one's", "again"]


def test_the_decoded_event_of_an_append_is_not_kept() -> None:
    recent = RecentAppends(10.0)
    _add(recent, "small", size=10)
    ((kept,),) = recent.by_partition().values()
    assert kept.envelope.event is None


def test_what_is_larger_than_all_that_may_be_kept_is_not_kept() -> None:
    recent = RecentAppends(10.0)
    _add(recent, "huge", size=40 * _MIB)
    assert _kept(recent) == []
    _add(recent, "small", size=10)
    assert _kept(recent) == ["small"]


def test_a_repeat_with_another_body_is_not_kept() -> None:
    """Its answer is a refusal."""
    recent = RecentAppends(10.0)
    repeat = Envelope("id", 0, "key", b"body", {}, fingerprint="one")
    recent.add([repeat], [Remembered("1-0", "then", "another", "")], remember=True)
    assert recent.by_partition() == {}
    recent.add([repeat, repeat], [Remembered("1-0", "then", "one", "")] * 2, remember=True)
    ((kept,),) = recent.by_partition().values()
    recent.forget([kept])
    assert recent.by_partition() == {}
