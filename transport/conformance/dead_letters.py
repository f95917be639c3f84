"""Dead letters: durable, with intact bytes and the reason, and read like any other topic."""

from __future__ import annotations

import msgspec
import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.member import Member, drain, message
from transport.contract import DLQ_GROUP, DeadLetter, Reason, Record, Topic
from transport.message.dead_letters import dead_letter_of


def _letter(record: Record, reason: Reason = Reason.REJECTED) -> DeadLetter:
    return DeadLetter(
        record=record, reason=reason, error="invalid \u2603", attempts=3, failed_at=now()
    )


@pytest.mark.asyncio
async def test_a_dead_letter_keeps_key_body_headers_and_origin(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish([message("dies", partition=1, of=transport)])
        (record,) = await transport.read(Topic.MESSAGES, 1)
        sent = _letter(record)
        await transport.dead_letter([sent])
        (stands,) = await transport.read(Topic.DEAD_LETTERS, 0)
        assert (stands.topic, stands.partition) == (Topic.DEAD_LETTERS, 0)
        assert (stands.key, stands.body) == (record.key, record.body)
        assert record.headers.items() <= stands.headers.items()
        back = dead_letter_of(stands)
        assert back.record.headers == record.headers
        assert (back.record.partition, back.record.offset) == (1, record.offset)
        assert back.record.appended_at == pytest.approx(record.appended_at, abs=0.001)
        assert (back.reason, back.error, back.attempts) == (sent.reason, sent.error, 3)
        assert back.failed_at == sent.failed_at


@pytest.mark.asyncio
async def test_a_dead_letter_keeps_what_another_program_wrote_beside_the_body(
    backend: Backend,
) -> None:
    """A log may hold any bytes in headers, and so may that to which the letter goes."""
    odd = {
        "empty": b"",
        "lines": b" a\r\nb: c\r\n\r\n ",
        "binary": bytes(range(256)),
        "100% \u00fc: =?utf-8?q?x?=": "\u00fc\u2603".encode(),
    }
    async with backend.create() as transport:
        await transport.publish([message("dies", partition=1, of=transport)])
        (record,) = await transport.read(Topic.MESSAGES, 1)
        strange = msgspec.structs.replace(
            record, key=" \u00fc\r\n\u2603%41 ", body=b"", headers=odd
        )
        await transport.dead_letter([_letter(strange, Reason.UNDECODABLE)])
        (stands,) = await transport.read(Topic.DEAD_LETTERS, 0)
        back = dead_letter_of(stands)
        assert back.record.headers == odd
        assert (back.record.key, back.record.body) == (strange.key, b"")


@pytest.mark.asyncio
async def test_bytes_that_nobody_can_decode_die_intact_and_do_not_loop(backend: Backend) -> None:
    backend.need("append_raw")
    assert backend.append_raw is not None
    garbage = bytes(range(256))
    async with backend.create() as transport, Member(transport) as member:
        await backend.append_raw(0, garbage)
        claim = await member.claim(0)
        (record,) = await drain(claim, 1, patience=backend.patience)
        await transport.dead_letter([_letter(record, Reason.UNDECODABLE)])
        await claim.ack(record.offset)
        await claim.nack()
        assert not await claim.next(max_records=10, max_wait=0.1)
        (stands,) = await transport.read(Topic.DEAD_LETTERS, 0)
        assert stands.body == garbage
        assert dead_letter_of(stands).reason is Reason.UNDECODABLE


@pytest.mark.asyncio
async def test_dead_letters_are_consumed_in_order_by_their_group(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(
            [message(text, partition=0, of=transport) for text in ("a", "b", "c")]
        )
        records = await transport.read(Topic.MESSAGES, 0)
        await transport.dead_letter([_letter(record) for record in records])
        async with Member(transport, group=DLQ_GROUP, topic=Topic.DEAD_LETTERS) as member:
            claim = await member.claim(0)
            letters = await drain(claim, 3, patience=backend.patience)
            assert [letter.body for letter in letters] == [record.body for record in records]
            await claim.ack(letters[-1].offset)
        (progress,) = await transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        assert progress.lag == 0


@pytest.mark.asyncio
async def test_no_dead_letters_is_no_write(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.dead_letter([])
        assert not await transport.read(Topic.DEAD_LETTERS, 0)
