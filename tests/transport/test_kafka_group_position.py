"""The position of a group in a Kafka partition, by its commit and the current log."""

from __future__ import annotations

import time

import msgspec
from aiokafka.structs import TopicPartition

from transport.kafka.group.gaps import Gaps, TopicEpoch
from transport.kafka.group.groups import Committed
from transport.kafka.group.position import group_position
from transport.kafka.loss.mark import Mark, SeenEnd, read_mark
from transport.kafka.loss.tails import TailLoss

_SEEN = SeenEnd(40, 3)
_MARK = Mark(lost=2, topic_id="ours", seen=_SEEN)


def _position_of(
    offset: int, mark: Mark, *, begin: int = 0, end: int = 30, tail_loss: TailLoss | None = None
) -> Committed:
    return group_position(
        Committed(offset, mark),
        topic_id="ours",
        begin=begin,
        end=end,
        lost_before=0,
        tail_loss=tail_loss,
    )


def test_a_log_that_has_what_it_had_moves_nothing() -> None:
    assert _position_of(30, _MARK) == (30, _MARK)


def test_a_log_that_lost_its_tail_has_the_group_where_it_was_cut() -> None:
    offset, mark = _position_of(30, _MARK, tail_loss=TailLoss(20, 10))
    assert (offset, mark.lost, mark.seen) == (20, 12, None)


def test_a_loss_is_dated_when_it_rises_and_keeps_its_time() -> None:
    cut = TailLoss(20, 10)
    lost_at = _position_of(30, _MARK, tail_loss=cut).mark.lost_at
    assert abs(lost_at / 1000 - time.time()) < 60
    later = msgspec.structs.replace(_MARK, lost_at=lost_at - 5000)
    assert _position_of(30, later).mark.lost_at == lost_at - 5000
    assert _position_of(30, later, tail_loss=cut).mark.lost_at >= lost_at


def test_an_unread_tail_leaves_the_position_where_it_is() -> None:
    offset, mark = _position_of(30, _MARK, end=35, tail_loss=TailLoss(33, 7))
    assert (offset, mark.lost) == (30, 9)


def test_a_log_that_lost_both_its_head_and_its_tail_has_the_group_at_its_beginning() -> None:
    offset, mark = _position_of(10, _MARK, begin=15, end=35, tail_loss=TailLoss(33, 7))
    assert (offset, mark.lost) == (15, 14)


def test_a_position_beyond_the_end_is_the_end() -> None:
    """A program moved the group there."""
    offset, mark = _position_of(30, Mark(topic_id="ours"), begin=4, end=24)
    assert (offset, mark.lost) == (24, 0)


def test_records_removed_as_old_are_counted_once_and_the_tail_is_remembered() -> None:
    offset, mark = _position_of(30, _MARK, begin=33, end=50)
    assert (offset, mark.lost, mark.seen) == (33, 5, _SEEN)


def test_a_topic_made_anew_has_nothing_to_do_with_the_tail_of_the_old_one() -> None:
    of_another = Mark(lost=2, topic_id="another", seen=_SEEN)
    assert _position_of(30, of_another) == (0, Mark(lost=2, topic_id="ours"))


def test_a_mark_is_small_and_is_read_again_as_it_was() -> None:
    big = Mark(2**40, "d2719a53-7d6c-4c1f-9b06-6fb0b2ce2b30", SeenEnd(2**50, 2**20), 2**42)
    assert read_mark(big.text()) == big
    assert len(big.text()) < 200
    assert read_mark("the note of another program") == Mark()


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
