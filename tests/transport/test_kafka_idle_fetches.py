"""Answers to fetches, of which the idle partitions are left out."""

from __future__ import annotations

import struct

import pytest
from aiokafka.protocol.fetch import FetchResponse_v11

from transport.kafka.client import idle_fetches

idle_fetches.install()

_HEAD = struct.pack(">ihii", 0, 0, 0, 1) + b"\0\4name"


def _answer(*partitions: bytes) -> bytes:
    return b"".join([_HEAD, struct.pack(">i", len(partitions)), *partitions])


def _partition(
    number: int, *, error: int = 0, aborted: bytes = b"\xff" * 4, replica: int = -1, records: bytes
) -> bytes:
    head = struct.pack(">ihqqq", number, error, 9, 9, 0)
    return b"".join([head, aborted, struct.pack(">ii", replica, len(records)), records])


_ABORTED = struct.pack(">iqq", 1, 7, 3)
_IDLE = [_partition(1, records=b""), _partition(2, aborted=b"\0" * 4, records=b"")]
_NULL_RECORDS = _partition(3, records=b"")[:-4] + b"\xff" * 4
_TOLD = [
    (_partition(4, records=b"batch"), (4, 0, 9, 9, 0, None, -1, b"batch")),
    (_partition(5, error=6, records=b""), (5, 6, 9, 9, 0, None, -1, b"")),
    (_partition(5, error=6, records=b"")[:-4] + b"\xff" * 4, (5, 6, 9, 9, 0, None, -1, None)),
    (_partition(4, aborted=b"\0" * 4, records=b"batch"), (4, 0, 9, 9, 0, [], -1, b"batch")),
    (_partition(6, aborted=_ABORTED, records=b""), (6, 0, 9, 9, 0, [(7, 3)], -1, b"")),
    (_partition(7, replica=2, records=b""), (7, 0, 9, 9, 0, None, 2, b"")),
]


def test_of_idle_partitions_nothing_is_left() -> None:
    answer = FetchResponse_v11.decode(_answer(*_IDLE, _NULL_RECORDS))
    assert answer.topics == [("name", [])]


@pytest.mark.parametrize(("raw", "told"), _TOLD)
def test_what_says_something_is_read_among_idle_ones(raw: bytes, told: tuple[object, ...]) -> None:
    answer = FetchResponse_v11.decode(_answer(*_IDLE, raw, _NULL_RECORDS, raw))
    assert answer.topics == [("name", [told, told])]


def test_what_stands_behind_the_partitions_of_a_topic_is_read() -> None:
    (raw, told), *_others = _TOLD
    two = _answer(*_IDLE, raw, *_IDLE)
    two = two[:10] + struct.pack(">i", 2) + two[14:] + b"\0\5other" + struct.pack(">i", 1) + raw
    assert FetchResponse_v11.decode(two).topics == [("name", [told]), ("other", [told])]


@pytest.mark.parametrize("less", [1, 8, 40])
def test_an_answer_that_ends_early_is_an_error(less: int) -> None:
    with pytest.raises(ValueError):
        FetchResponse_v11.decode(_answer(*_IDLE)[:-less])


@pytest.mark.parametrize("less", [1, 5, 9])
def test_records_that_end_early_are_an_error(less: int) -> None:
    with pytest.raises(ValueError):
        FetchResponse_v11.decode(_answer(*_IDLE, _partition(1, records=b"batch"))[:-less])


def test_no_partitions_at_all_are_null() -> None:
    assert FetchResponse_v11.decode(_HEAD + b"\xff" * 4).topics == [("name", None)]
