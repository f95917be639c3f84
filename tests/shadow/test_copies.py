"""What a copy is: the primary's record, byte for byte, and where that stands."""

from __future__ import annotations

import pytest

from tests.shadow.log_pair import LogPair
from tests.support.eventually import eventually
from transport.clock import now
from transport.conformance.envelopes import message, messages
from transport.contract import Appended, Record, Remembered
from transport.message.envelope import HEADER_MIRROR_OF, HEADER_SHADOW_MODE, Message, seal_message
from transport.message.payload import ContentDigest

_ID = "0188c0ff-5f5f-8abc-9def-0123456789ab"


def _without(record: Record) -> tuple[int, str, bytes, dict[str, bytes]]:
    """Return the parts that a copy shares with its original."""
    own = (HEADER_MIRROR_OF, HEADER_SHADOW_MODE)
    headers = {name: value for name, value in record.headers.items() if name not in own}
    return record.partition, record.key, record.body, headers


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_copy_is_the_primarys_record_but_for_two_headers(pair: LogPair, mode: str) -> None:
    async with pair.process(mode) as process:
        texts = [str(i) for i in range(30)]
        for partition in range(4):
            outcomes = await process.transport.publish(
                messages(texts, partition=partition, of=process.transport)
            )
            assert all(isinstance(outcome, Appended) for outcome in outcomes)
        if mode == "sync":
            assert len(await pair.stands(pair.shadow)) == 120, "before publish returned"
    originals, copies = await pair.stands(pair.primary), await pair.stands(pair.shadow)
    assert [_without(copy) for copy in copies] == [_without(original) for original in originals]
    assert [copy.headers[HEADER_MIRROR_OF].decode() for copy in copies] == [
        f"{pair.primary}:{original.offset}" for original in originals
    ]
    assert {copy.headers[HEADER_SHADOW_MODE] for copy in copies} == {mode.encode()}
    assert process.watch.counts == {"appended": 120}
    assert not process.watch.gaps


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_redrive_is_copied_whatever_is_remembered(pair: LogPair, mode: str) -> None:
    async with pair.process(mode) as process:
        sent = message("again", partition=0, of=process.transport)
        await process.transport.publish([sent])
        (outcome,) = await process.transport.publish([sent], remember=False)
        assert isinstance(outcome, Appended)
    copies = await pair.stands(pair.shadow)
    originals = await pair.stands(pair.primary)
    assert [copy.headers[HEADER_MIRROR_OF].decode() for copy in copies] == [
        f"{pair.primary}:{original.offset}" for original in originals
    ]
    assert len(copies) == 2


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_copies_go_in_few_calls(pair: LogPair, mode: str) -> None:
    """Never one round trip per message."""
    async with pair.process(mode) as process:
        calls = 0
        publish = process.mirror.transport.publish

        async def counted(*args, **kwargs):
            nonlocal calls
            calls += 1
            return await publish(*args, **kwargs)

        process.mirror.transport.publish = counted  # type: ignore[method-assign]
        for partition in range(4):
            sent = messages([str(i) for i in range(250)], partition=partition, of=process.transport)
            await process.transport.publish(sent)
        await eventually(lambda: process.watch.counts["appended"] == 1000)
        assert calls <= 5


@pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)  # Kafka remembers no keys
async def test_another_body_under_a_remembered_key_is_not_copied(pair: LogPair) -> None:
    async with pair.process("sync") as process:
        first = message("first", partition=0, of=process.transport)
        await process.transport.publish([first])
        other = message("other", partition=0, of=process.transport)
        forged = type(first)(
            first.message_id, 0, first.key, other.body, first.headers, other.accepted_at, "f" * 32
        )
        (outcome,) = await process.transport.publish([forged])
        assert isinstance(outcome, Remembered)
    assert [stand.body for stand in await pair.stands(pair.shadow)] == [first.body]


@pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)  # Kafka remembers no keys
@pytest.mark.parametrize("large_first", [False, True])
async def test_a_repeat_of_another_version_is_copied_as_the_first_one_is(
    pair: LogPair, large_first: bool
) -> None:
    """The store or its threshold changed before the retry: both logs have the first one's bytes."""
    text = Message("c", "s", "m", "hello", "text", (), _ID, "s:c:m", now(), "cor")
    digest = ContentDigest()
    digest.add(b"hello")
    large = text.with_payload(digest.payload(_ID, "text", ()))
    async with pair.process("sync") as process:
        partitions = process.transport.partitions
        small, other = (
            seal_message(message, partitions=partitions, traceparent=None)
            for message in (text, large)
        )
        first, repeat = (other, small) if large_first else (small, other)
        # Only the primary has it, as when the shadow fails at the first attempt.
        await process.transport.inner.publish([first])
        (outcome,) = await process.transport.publish([repeat])
        assert isinstance(outcome, Remembered)
    (original,), (copy,) = await pair.stands(pair.primary), await pair.stands(pair.shadow)
    assert _without(copy) == _without(original)
