"""Appends: in order, with one outcome per envelope, and once per remembered message id."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended, Outcome, Remembered, Topic
from transport.errors import AppendUnknown, TransportError, TransportUnavailable

_LARGE = 3 * 1024 * 1024  # more than some brokers take of one record
_DAY = 86_400.0  # no clock is that wrong, and no other unit that near


@pytest.mark.asyncio
async def test_records_stand_in_the_order_in_which_they_were_published(backend: Backend) -> None:
    async with backend.create() as transport:
        texts = [str(i) for i in range(50)]
        await transport.publish(messages(texts[:25], partition=1, of=transport))
        await transport.publish(messages(texts[25:], partition=1, of=transport))
        assert contents(await transport.read(Topic.MESSAGES, 1)) == texts


@pytest.mark.asyncio
async def test_a_record_is_the_envelope_byte_for_byte(backend: Backend) -> None:
    async with backend.create() as transport:
        sent = message("snowman \u2603", partition=1, of=transport)
        await transport.publish([sent])
        (record,) = await transport.read(Topic.MESSAGES, 1)
        assert record.body == sent.body
        assert record.key == sent.key
        assert {name: value.decode() for name, value in record.headers.items()} == sent.headers
        assert (record.topic, record.partition) == (Topic.MESSAGES, 1)
        assert abs(record.appended_at - time.time()) < _DAY, "seconds since the Unix epoch"


@pytest.mark.asyncio
async def test_a_key_and_headers_are_any_text(backend: Backend) -> None:
    """A conversation may be called anything; a redriven record has headers of another program."""
    odd = " \u00fc\r\nb: c\t\u2603%41 "
    async with backend.create() as transport:
        envelope = message("odd", partition=1, of=transport)
        headers = {**envelope.headers, "empty": "", f"name{odd}": odd}
        sent = msgspec.structs.replace(envelope, key=odd, headers=headers)
        (outcome,) = await transport.publish([sent])
        assert isinstance(outcome, Appended)
        (record,) = await transport.read(Topic.MESSAGES, 1)
        assert (record.key, record.body) == (odd, sent.body)
        assert {name: value.decode() for name, value in record.headers.items()} == headers


@pytest.mark.asyncio
async def test_each_item_of_a_batch_has_its_own_outcome_in_its_own_place(backend: Backend) -> None:
    async with backend.create() as transport:
        sent = [message(str(i), partition=i % 2, of=transport) for i in range(20)]
        outcomes = await transport.publish(sent)
        for envelope, outcome in zip(sent, outcomes, strict=True):
            assert isinstance(outcome, Appended)
            stands = [
                record.body
                for record in await transport.read(Topic.MESSAGES, envelope.partition)
                if record.offset == outcome.offset
            ]
            assert stands == [envelope.body]


@pytest.mark.asyncio
async def test_calls_that_overlap_are_all_appended_each_callers_in_its_order(
    backend: Backend,
) -> None:
    async with backend.create() as transport:
        outcomes: list[Outcome] = []

        async def call(caller: int) -> None:
            for n in range(30):
                sent = [message(f"{caller}/{n}", partition=p, of=transport) for p in (0, 1)]
                outcomes.extend(await transport.publish(sent))
                for _ in range((caller * n) % 7):  # callers fall out of step, by turns of the loop
                    await asyncio.sleep(0)

        await asyncio.gather(*(call(caller) for caller in range(24)))
        assert [outcome for outcome in outcomes if not isinstance(outcome, Appended)] == []
        for partition in (0, 1):
            stands = contents(await transport.read(Topic.MESSAGES, partition, limit=10_000))
            assert len(stands) == 24 * 30
            for caller in range(24):
                mine = [text for text in stands if text.startswith(f"{caller}/")]
                assert mine == [f"{caller}/{n}" for n in range(30)]


@pytest.mark.asyncio
async def test_offsets_sort_as_the_records_stand(backend: Backend) -> None:
    async with backend.create() as transport:
        outcomes: list[Outcome] = []
        for i in range(12):  # ten and more, so that text order would differ
            outcomes += await transport.publish([message(str(i), partition=0, of=transport)])
        offsets = [outcome.offset for outcome in outcomes if isinstance(outcome, Appended)]
        assert len(offsets) == 12
        assert sorted(offsets, key=transport.sort_key) == offsets
        assert len({transport.sort_key(offset) for offset in offsets}) == 12


@pytest.mark.asyncio
async def test_reading_goes_on_after_an_offset_and_stops_at_a_limit(backend: Backend) -> None:
    async with backend.create() as transport:
        texts = [str(i) for i in range(9)]
        await transport.publish(messages(texts, partition=0, of=transport))
        first = await transport.read(Topic.MESSAGES, 0, limit=4)
        rest = await transport.read(Topic.MESSAGES, 0, after=first[-1].offset, limit=100)
        assert contents(first) == texts[:4]
        assert contents(rest) == texts[4:]
        assert not await transport.read(Topic.MESSAGES, 0, after=rest[-1].offset)


@pytest.mark.asyncio
async def test_a_log_that_takes_writes_says_so(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.ping()


@pytest.mark.asyncio
async def test_publishing_nothing_does_nothing(backend: Backend) -> None:
    async with backend.create() as transport:
        assert list(await transport.publish([])) == []


@pytest.mark.asyncio
async def test_one_call_takes_thousands_of_records(backend: Backend) -> None:
    async with backend.create() as transport:
        texts = [str(i) for i in range(2500)]
        outcomes = await transport.publish(messages(texts, partition=0, of=transport))
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        assert contents(await transport.read(Topic.MESSAGES, 0, limit=5000)) == texts


@pytest.mark.asyncio
async def test_a_record_that_is_too_large_is_refused_for_good_and_alone(backend: Backend) -> None:
    """As unavailable it would be sent for ever, and hold up what comes after it."""
    async with backend.create() as transport:
        before, after = messages(["before", "after"], partition=0, of=transport)
        large = message("x" * _LARGE, partition=0, of=transport)
        outcomes = await transport.publish([before, large, after])
        assert isinstance(outcomes[0], Appended)
        assert not isinstance(outcomes[1], (TransportUnavailable, AppendUnknown))
        assert isinstance(outcomes[2], Appended)
        assert contents(await transport.read(Topic.MESSAGES, 0, limit=1)) == ["before"]


@pytest.mark.asyncio
async def test_publishers_at_the_same_time_each_keep_their_order(backend: Backend) -> None:
    async with backend.create() as transport:

        async def publish(name: str) -> None:
            for i in range(10):
                await transport.publish([message(f"{name}{i}", partition=0, of=transport)])

        await asyncio.gather(*(publish(name) for name in "abcd"))
        stands = contents(await transport.read(Topic.MESSAGES, 0))
        for name in "abcd":
            mine = [text for text in stands if text.startswith(name)]
            assert mine == [f"{name}{i}" for i in range(10)]


@pytest.mark.asyncio
async def test_a_repeat_is_answered_with_the_first_ones_answer(backend: Backend) -> None:
    backend.need("remembers")
    async with backend.create() as transport, backend.create() as another:
        sent = message("once", partition=1, of=transport)
        (first,) = await transport.publish([sent])
        (again,) = await another.publish([sent])
        assert isinstance(first, Appended)
        assert again == Remembered(
            offset=first.offset,
            accepted_at=sent.accepted_at,
            fingerprint=sent.fingerprint,
            correlation_id=sent.headers["correlationId"],
        )
        assert len(await transport.read(Topic.MESSAGES, 1)) == 1


@pytest.mark.asyncio
async def test_a_repeat_within_one_batch_is_met_too(backend: Backend) -> None:
    backend.need("remembers")
    async with backend.create() as transport:
        twice = message("twice", partition=0, of=transport)
        other = message("other", partition=0, of=transport)
        first, repeat, last = await transport.publish([twice, twice, other])
        assert isinstance(first, Appended)
        assert isinstance(repeat, Remembered)
        assert isinstance(last, Appended)
        assert contents(await transport.read(Topic.MESSAGES, 0)) == ["twice", "other"]


@pytest.mark.asyncio
async def test_a_redrive_is_appended_whatever_is_remembered(backend: Backend) -> None:
    async with backend.create() as transport:
        sent = message("again", partition=0, of=transport)
        await transport.publish([sent])
        (outcome,) = await transport.publish([sent], remember=False)
        assert isinstance(outcome, Appended)
        assert contents(await transport.read(Topic.MESSAGES, 0)) == ["again", "again"]


@pytest.mark.asyncio
async def test_recall_tells_what_is_remembered_in_the_order_asked(backend: Backend) -> None:
    async with backend.create() as transport:
        known = [message("known", partition=p, of=transport) for p in (1, 0)]
        never = message("never sent", partition=0, of=transport)
        outcomes = await transport.publish(known)
        asked = [known[0].message_id, never.message_id, known[1].message_id]
        answers = await transport.recall(asked)
        if not backend.features.remembers:
            assert list(answers) == [None, None, None]
            return
        assert answers[1] is None
        for outcome, envelope, answer in zip(outcomes, known, answers[::2], strict=True):
            assert isinstance(outcome, Appended)
            assert isinstance(answer, Remembered)
            assert answer.offset == outcome.offset
            assert answer.fingerprint == envelope.fingerprint


@pytest.mark.asyncio
async def test_a_cancelled_publish_leaves_the_transport_as_good_as_before(
    backend: Backend,
) -> None:
    async with backend.create() as transport:
        for delay in (0, 0.0005, 0.002, 0.005):
            batch = messages([str(i) for i in range(200)], partition=0, of=transport)
            task = asyncio.ensure_future(transport.publish(batch))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait([task])
        last = message("after", partition=0, of=transport)
        (outcome,) = await transport.publish([last])
        assert not isinstance(outcome, TransportError)
        # A cancelled append may still reach the log, before or after this one.
        assert "after" in contents(await transport.read(Topic.MESSAGES, 0, limit=5000))
