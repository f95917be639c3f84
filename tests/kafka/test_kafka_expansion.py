"""A compressed batch that would fill the memory is told apart without unpacking it."""

from __future__ import annotations

import pytest
from aiokafka.codec import snappy_decode, snappy_encode

from transport.kafka.client.expansion import SNAPPY, expands_past

_MOST = 32 * 1024 * 1024


@pytest.mark.parametrize("java", [True, False])
@pytest.mark.parametrize(("size", "past"), [(_MOST, False), (_MOST + 1, True)])
def test_snappy_is_held_against_the_limit_like_all_others(
    java: bool, size: int, past: bool
) -> None:
    packed = bytes(snappy_encode(bytes(size), xerial_compatible=java))
    assert len(packed) < 4 * 1024 * 1024, "what a topic takes"
    assert expands_past(SNAPPY, packed, _MOST) is past
    assert len(snappy_decode(packed)) == size


@pytest.mark.parametrize("packed", [b"", b"\xff" * 40, b"\x82SNAPPY\0" + b"\xff" * 40])
def test_broken_snappy_ends_the_reading_and_raises_nothing(packed: bytes) -> None:
    expands_past(SNAPPY, packed, _MOST)  # whatever it says: it becomes a dead letter
