"""The same key has the same message id, for ever; two keys never share one."""

from __future__ import annotations

import gc
import sys
from uuid import RFC_4122, UUID

from hypothesis import example, given
from hypothesis import strategies as st

from transport.message.identity import idempotency_key, message_id, partition_of
from transport.message.partitioner import partition_for

part = st.text(max_size=30)
triple = st.tuples(part, part, part)


def test_an_id_given_out_once_is_given_out_for_ever() -> None:
    """Changing this line breaks promise 4 for every message there is."""
    key = idempotency_key("user_001", "test_conv_001", "client_msg_001")
    assert key == "user_001:test_conv_001:client_msg_001"
    assert message_id(key, "test_conv_001") == "28058b17-a643-885e-8ee6-8b7ae2f04d8e"


@given(triple, triple)
@example(("a:b", "c", "d"), ("a", "b:c", "d"))
@example(("a%3Ab", "c", "d"), ("a:b", "c", "d"))
@example(("%25", "c", "d"), ("%", "c", "d"))
def test_different_triples_have_different_keys(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (idempotency_key(*one) == idempotency_key(*other)) == (one == other)


@given(st.text(max_size=60), part)
def test_an_id_is_a_uuid_of_version_8_in_canonical_spelling(key: str, conversation: str) -> None:
    text = message_id(key, conversation)
    parsed = UUID(text)
    assert str(parsed) == text
    assert parsed.version == 8
    assert parsed.variant == RFC_4122


@given(st.text(max_size=60), part, st.integers(1, 4096))
def test_the_id_alone_tells_the_partition_at_any_number_of_them(
    key: str, conversation: str, partitions: int
) -> None:
    identifier = message_id(key, conversation)
    assert partition_of(identifier, partitions) == partition_for(conversation, partitions)
    assert partition_of(UUID(identifier), partitions) == partition_for(conversation, partitions)


@given(st.text(max_size=60), st.text(max_size=60), part)
def test_keys_of_one_conversation_have_ids_of_their_own(one: str, other: str, conv: str) -> None:
    assert (message_id(one, conv) == message_id(other, conv)) == (one == other)


@given(st.uuids(), st.integers(1, 4096))
def test_any_other_uuid_has_some_valid_partition(identifier: UUID, partitions: int) -> None:
    assert 0 <= partition_of(identifier, partitions) < partitions


def test_ever_new_conversations_fill_the_caches_soon_and_take_no_more_then() -> None:
    """A process that meets some hundred an hour must not grow for days until they are full."""

    def meet(first: int, last: int) -> int:
        for number in range(first, last):
            conversation = f"conversation-of-the-caches-{number}"
            identifier = message_id(f"user:{conversation}:1", conversation)
            assert partition_for(conversation, 16) == partition_of(identifier, 16)
        gc.collect()
        return sys.getallocatedblocks()

    full = meet(0, 20_000)
    assert meet(20_000, 80_000) - full < 5_000
