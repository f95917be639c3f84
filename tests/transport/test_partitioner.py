"""The partitioner is Kafka's own, at every number of partitions."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from transport.message.partitioner import key_hash, murmur2, partition_for, partition_of_hash

# From Kafka's own UtilsTest.testMurmur2, as Java's signed ints.
KAFKA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
# (hash & 0x7fffffff) % partitions, worked out from the ints above.
PARTITIONS = {
    "21": {12: 0, 15: 0, 16: 12},
    "foobar": {12: 6, 15: 6, 16: 14},
    "a-little-bit-long-string": {12: 8, 15: 2, 16: 0},
    "a-little-bit-longer-string": {12: 11, 15: 14, 16: 3},
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": {12: 5, 15: 2, 16: 13},
    "abc": {12: 3, 15: 12, 16: 11},
}


def _signed(value: int) -> int:
    return value - (1 << 32) if value & 0x80000000 else value


@pytest.mark.parametrize("key", KAFKA)
def test_the_hash_is_the_java_clients(key: str) -> None:
    assert _signed(murmur2(key.encode())) == KAFKA[key]


@pytest.mark.parametrize("partitions", [12, 15, 16])
@pytest.mark.parametrize("key", KAFKA)
def test_the_partition_is_the_java_clients(key: str, partitions: int) -> None:
    assert partition_for(key, partitions) == PARTITIONS[key][partitions]


def test_the_vectors_tell_a_missing_mask_from_a_present_one() -> None:
    """At 16 partitions they can't; so 12 and 15 are there."""
    unmasked = {key: {n: murmur2(key.encode()) % n for n in (12, 15, 16)} for key in KAFKA}
    assert all(unmasked[key][16] == PARTITIONS[key][16] for key in KAFKA)
    for partitions in (12, 15):
        assert any(unmasked[key][partitions] != PARTITIONS[key][partitions] for key in KAFKA)


@given(st.binary(max_size=200))
def test_another_implementation_agrees_on_any_bytes(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data) & 0xFFFFFFFF


@given(st.text(max_size=50), st.integers(1, 4096))
def test_a_partition_is_always_one_of_those_there_are(key: str, partitions: int) -> None:
    assert 0 <= partition_for(key, partitions) < partitions
    assert partition_of_hash(key_hash(key), partitions) == partition_for(key, partitions)
