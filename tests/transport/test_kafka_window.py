"""What a claim of Kafka holds: records that were fetched, and are not yet acknowledged."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from transport.contract import Record, Topic
from transport.kafka.delivery.window import Window

MIB = 1024 * 1024


def record_at(offset: int, body: bytes = b"hello") -> Record:
    """Return a record of this offset."""
    return Record(Topic.MESSAGES, 0, str(offset), "key", body, {}, 1.0, 1)


def records(offsets: Iterable[int], body: bytes = b"hello") -> list[tuple[int, Record]]:
    """Return records as they are fetched."""
    return [(offset, record_at(offset, body)) for offset in offsets]


def offsets_of(taken: Iterable[Record]) -> list[int]:
    """Return where these stand."""
    return [int(record.offset) for record in taken]


@pytest.fixture
def window() -> Window:
    """Holds 10, 11, 14 and 15; what is between is no record."""
    window = Window(10)
    window.add(records([10, 11, 14, 15]))
    return window


@pytest.mark.parametrize(
    ("after", "found"), [(11, 11), (12, 14), (14, 14), (15, 15), (16, 16), (17, 17)]
)
def test_the_next_one_that_may_be_a_record(window: Window, after: int, found: int) -> None:
    assert window.next_after(after) == found


@pytest.mark.parametrize(
    ("below", "found"), [(10, None), (11, 10), (12, 11), (14, 11), (15, 14), (16, 15)]
)
@pytest.mark.parametrize("taken", [0, 4])
def test_the_last_one_before_an_offset(
    window: Window, below: int, found: int | None, taken: int
) -> None:
    window.take(taken)
    record = window.before(below)
    assert (record and int(record.offset)) == found


def test_what_is_acknowledged_is_forgotten_and_what_is_left_comes_again(window: Window) -> None:
    assert offsets_of(window.take(3)) == [10, 11, 14]
    window.ack(14)
    assert (window.acked, window.delivered, window.ready, window.unacknowledged) == (14, 1, 1, 2)
    window.rewind()
    assert (window.delivered, window.ready) == (0, 2)
    assert offsets_of(window.take(9)) == [14, 15]
    window.ack(12)  # late
    assert window.acked == 14


def test_bytes_are_bounded_whichever_way_records_leave() -> None:
    window = Window(0)
    window.add(records(range(5), bytes(MIB)))
    assert window.full
    window.ack(3)  # without having been taken
    assert not window.full
    window.add(records(range(5, 8), bytes(MIB)))
    assert window.full
    window.take(5)
    assert not window.full
    window.ack(8)
    window.add(records(range(8, 11), bytes(MIB)))
    assert not window.full
    window.add(records(range(11, 12), bytes(MIB)))
    assert window.full
    window.take(4)
    window.rewind()
    assert window.full


def test_offsets_behind_the_last_record_are_expected_again_where_they_were_passed() -> None:
    window = Window(10)
    window.add(records([10]))
    assert not window.back_to(11)
    window.pass_over(15)
    assert window.fetched == 15
    window.take(1)
    window.ack(15)
    assert window.back_to(11)
    assert (window.fetched, window.acked) == (11, 11)
