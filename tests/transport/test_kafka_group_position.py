"""Where a group stands in a Kafka partition, by what it committed and what the log is now."""

from __future__ import annotations

import time

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from transport.contract import Record, Topic
from transport.kafka.group.gaps import Gaps, TopicEpoch
from transport.kafka.group.groups import Committed
from transport.kafka.group.position import group_position
from transport.kafka.loss.identity import Leader
from transport.kafka.loss.mark import Anchor, Mark, SeenEnd, anchor_of, read_mark
from transport.kafka.loss.seen_ends import SeenEnds
from transport.kafka.loss.tails import TailLoss

_LAST, _BEFORE = Anchor(29, 1000, "aa", 3), Anchor(19, 900, "bb", 3)
_SEEN = SeenEnd(40, 3)
_MARK = Mark(epoch=7, lost=2, topic_id="ours", last=_LAST, seen=_SEEN)


def _position_of(
    offset: int,
    mark: Mark,
    *,
    begin: int = 0,
    end: int = 30,
    tail_loss: TailLoss | None = None,
    trust_seen_end: bool = False,
) -> Committed:
    return group_position(
        Committed(offset, mark),
        topic_id="ours",
        begin=begin,
        end=end,
        lost_before=0,
        tail_loss=tail_loss,
        trust_seen_end=trust_seen_end,
    )


def test_a_log_that_has_what_it_had_moves_nothing() -> None:
    assert _position_of(30, _MARK) == (30, _MARK)


def test_a_log_that_went_back_is_read_from_where_it_was_cut() -> None:
    offset, mark = _position_of(30, _MARK, tail_loss=TailLoss(20, 10, _BEFORE))
    assert (offset, mark.lost, mark.last, mark.seen) == (20, 12, _BEFORE, None)


def test_a_loss_is_dated_when_it_rises_and_keeps_its_time() -> None:
    cut = TailLoss(20, 10, _BEFORE)
    lost_at = _position_of(30, _MARK, tail_loss=cut).mark.lost_at
    assert abs(lost_at / 1000 - time.time()) < 60
    later = msgspec.structs.replace(_MARK, lost_at=lost_at - 5000)
    assert _position_of(30, later).mark.lost_at == lost_at - 5000
    assert _position_of(30, later, tail_loss=cut).mark.lost_at >= lost_at


def test_a_tail_that_nobody_had_read_leaves_the_place_where_it_is() -> None:
    offset, mark = _position_of(30, _MARK, end=35, tail_loss=TailLoss(33, 7))
    assert (offset, mark.lost, mark.last) == (30, 9, _LAST)


def test_a_log_that_lost_both_its_head_and_its_tail_is_read_from_what_is_left() -> None:
    assert _position_of(10, _MARK, begin=15, end=35, tail_loss=TailLoss(33, 7)).offset == 15


def test_a_mark_without_an_anchor_beyond_the_end_begins_anew_and_counts() -> None:
    offset, mark = _position_of(30, Mark(epoch=7, topic_id="ours"), begin=4, end=24)
    assert (offset, mark.lost) == (4, 6)


def test_records_removed_as_old_are_counted_once_and_the_tail_is_remembered() -> None:
    offset, mark = _position_of(30, _MARK, begin=33, end=50)
    assert (offset, mark.lost, mark.last) == (33, 5, _LAST)


def test_a_topic_made_anew_has_nothing_to_do_with_the_tail_of_the_old_one() -> None:
    of_another = Mark(epoch=7, lost=2, topic_id="another", last=_LAST, seen=_SEEN)
    assert _position_of(30, of_another) == (0, Mark(epoch=7, lost=2))


def _record(body: bytes = b"body", appended_at: float = 1.5) -> Record:
    return Record(Topic.MESSAGES, 0, "5", "key", body, {}, appended_at)


@pytest.mark.parametrize("other", [_record(b"other"), _record(appended_at=1.501)], ids=repr)
def test_another_record_at_the_offset_is_another_anchor(other: Record) -> None:
    assert anchor_of(other, 3) != anchor_of(_record(), 3) == anchor_of(_record(), 3)


def test_a_mark_is_small_and_is_read_again_as_it_was_also_from_before_it_had_anchors() -> None:
    big = Mark(2**44, 2**40, "d2719a53-7d6c-4c1f-9b06-6fb0b2ce2b30", _LAST, SeenEnd(2**50, 2**20))
    assert read_mark(big.text()) == big
    assert len(big.text()) < 250
    assert read_mark('{"epoch":5,"lost":1,"topic_id":"ours"}') == Mark(5, 1, "ours")
    assert read_mark('{"epoch":5,"last":["not","an","anchor"]}') == Mark()


def test_an_end_counts_as_seen_between_two_looks_at_the_same_leader() -> None:
    """If not, a broker that learns late of an election would make it look like a loss."""
    seen_ends = SeenEnds()
    assert seen_ends.look({0: 10}, {0: Leader(1, 5)}) == []
    assert seen_ends.of(0) is None
    assert seen_ends.look({0: 12}, {0: Leader(1, 5)}) == []
    assert seen_ends.of(0) == SeenEnd(10, 5)
    assert seen_ends.look({0: 14}, {0: Leader(2, 6)}) == [0]
    assert seen_ends.look({0: 16}, {0: Leader(2, 6)}) == [0], "until it is compared"
    assert seen_ends.of(0) == SeenEnd(10, 5)
    seen_ends.forget(0)
    assert seen_ends.look({0: 16}, {0: Leader(2, 6)}) == []
    assert seen_ends.of(0) is None


def test_offsets_without_a_record_behind_the_last_one_are_read_again() -> None:
    """After the log was cut before a transaction's marker, a record may be at its offset."""
    assert _position_of(33, _MARK, end=40).offset == 30
    assert _position_of(33, _MARK, end=31).mark.lost == 2, "and nothing was lost with them"
    assert _position_of(33, _MARK, begin=33, end=40) == (33, _MARK), (
        "but no longer where they are gone"
    )


def test_offsets_without_a_record_that_the_log_was_seen_to_go_beyond_need_no_second_look() -> None:
    """If not, a gigabyte of aborted records would be read at each query."""
    assert _position_of(33, _MARK, end=40, trust_seen_end=True) == (33, _MARK)
    assert _position_of(40, _MARK, end=40, trust_seen_end=True).offset == 40
    assert _position_of(41, _MARK, end=41, trust_seen_end=True).offset == 30, "seen only up to 40"
    unseen = Mark(epoch=7, topic_id="ours", last=_LAST)
    assert _position_of(33, unseen, end=40, trust_seen_end=True).offset == 30
    cut = TailLoss(33, 7, _LAST)
    assert _position_of(36, _MARK, end=40, tail_loss=cut, trust_seen_end=True).offset == 33


def test_what_was_looked_through_is_remembered_for_the_same_log_only() -> None:
    at, log = TopicPartition("topic", 0), TopicEpoch("ours", 3)
    gaps = Gaps()
    gaps.note(at, 30, 500, log)
    gaps.note(at, 500, 900, log)
    assert [gaps.end(at, start, log) for start in (29, 30, 500, 900, 901)] == [
        29,
        900,
        900,
        900,
        901,
    ]
    for another in (TopicEpoch("ours", 4), TopicEpoch("another", 3)):
        assert gaps.end(at, 30, another) == 30
    gaps.note(at, 30, 30, TopicEpoch("ours", 4))
    assert gaps.end(at, 30, log) == 900, "a look that passed nothing tells nothing"
    gaps.note(at, 30, 40, TopicEpoch("ours", 4))
    assert gaps.end(at, 30, log) == 30
