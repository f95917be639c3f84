"""Arrays of Kafka's protocol that are read and written in one go."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.offset import OffsetRequest_v2, OffsetResponse_v4
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    Int8,
    Int32,
    String,
    UnsignedVarInt32,
)

from transport.kafka.client import fixed_arrays
from transport.kafka.loss.identity import PartitionLeaders

fixed_arrays.install()

_ENDS = [(partition, 0, -1, 2**40 + partition, 7) for partition in range(300)]


def test_ends_of_partitions_are_read_as_they_were_written() -> None:
    raw = b"".join([
        struct.pack(">iih", 5, 1, 4), b"name", struct.pack(">i", len(_ENDS)),
        *(struct.pack(">ihqqi", *end) for end in _ENDS),
    ])  # fmt: skip
    answer = OffsetResponse_v4.decode(raw)
    assert answer.topics == [("name", _ENDS)]
    assert OffsetResponse_v4(5, [("name", _ENDS)]).encode() == raw


def test_a_request_is_written_as_the_protocol_says() -> None:
    request = OffsetRequest_v2(-1, 1, [("name", [(3, -2), [4, -1]])])
    assert request.encode() == struct.pack(
        ">ibih4siiqiq", -1, 1, 1, 4, b"name", 2, 3, -2, 4, -1
    )  # fmt: skip


def test_what_stands_behind_an_array_is_left() -> None:
    raw = BytesIO(struct.pack(">iii", 2, 8, 9) + b"rest")
    assert Array(Int32).decode(raw) == [8, 9]
    assert raw.read() == b"rest"


@pytest.mark.parametrize(("raw", "items"), [(b"\xff\xff\xff\xff", None), (b"\0\0\0\0", [])])
def test_null_is_not_empty(raw: bytes, items: list[object] | None) -> None:
    array = Array(("partition", Int32), ("is_new", Boolean))
    assert array.decode(BytesIO(raw)) == items
    assert array.encode(items) == raw


def test_other_arrays_are_as_before() -> None:
    array = Array(("name", String("utf-8")), ("size", Int8))
    assert array.decode(BytesIO(array.encode([("a", 1), ("bc", 2)]))) == [("a", 1), ("bc", 2)]
    nested = FetchRequest_v11(-1, 250, 1, 99, 1, 0, -1, [("t", [(0, -1, 5, -1, 9)])], [], "")
    assert FetchRequest_v11.decode(nested.encode()) == nested


@pytest.mark.parametrize("raw", [b"\0\0\0\2\0\0\0\1", b"\x7f\xff\xff\xff\0\0\0\1", b"\0\0"])
def test_an_array_that_ends_early_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        Array(Int32).decode(BytesIO(raw))


@pytest.mark.parametrize("item", [(1,), (1, 2, 3), ("one", 2), (2**31, 2)])
def test_an_item_of_another_kind_is_an_error(item: tuple[object, ...]) -> None:
    with pytest.raises(ValueError):
        Array(("partition", Int32), ("leader", Int32)).encode([item])


@pytest.mark.parametrize("replicas", [0, 1, 126, 127, 400])
def test_leaders_are_found_between_any_number_of_replicas(replicas: int) -> None:
    nodes = CompactArray(Int32)
    partitions = [
        struct.pack(">hiii", 0, number, 7, 3)
        + nodes.encode(list(range(replicas)))
        + nodes.encode([7])
        + nodes.encode(None)
        + (b"\x01\x05\x07unknown" if number else b"\x00")  # tagged fields
        for number in range(3)
    ]
    raw = BytesIO(UnsignedVarInt32.encode(4) + b"".join(partitions) + b"rest")
    assert PartitionLeaders.decode(raw) == [(0, 7, 3), (1, 7, 3), (2, 7, 3)]
    assert raw.read() == b"rest"


_SAME = (3, 2, 1)  # nodes: replicas, in sync, offline


@pytest.mark.parametrize(
    "last",
    [_SAME, (2, 2, 1), (4, 2, 1), (2, 3, 1), (3, 1, 2), (0, 0, 0), (127, 2, 1)],
)
def test_leaders_are_found_where_the_last_partition_has_other_nodes(
    last: tuple[int, int, int],
) -> None:
    nodes = CompactArray(Int32)
    partitions = [
        struct.pack(">hiii", 0, number, 7 + number, 3)
        + b"".join(nodes.encode(list(range(count))) for count in counts)
        + b"\x00"
        for number, counts in enumerate([_SAME, _SAME, _SAME, last])
    ]
    raw = BytesIO(UnsignedVarInt32.encode(5) + b"".join(partitions) + b"rest" * 100)
    assert PartitionLeaders.decode(raw) == [(0, 7, 3), (1, 8, 3), (2, 9, 3), (3, 10, 3)]
    assert raw.read() == b"rest" * 100
