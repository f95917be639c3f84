"""Dead letters: durable, with intact bytes and the reason, and read like any other topic."""

from __future__ import annotations

import msgspec
import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import message, messages
from transport.contract import DeadLetter, Reason, Record, Topic
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
async def test_bytes_that_nobody_can_decode_die_intact(backend: Backend) -> None:
    backend.need("append_raw")
    assert backend.append_raw is not None
    garbage = bytes(range(256))
    async with backend.create() as transport:
        await backend.append_raw(0, garbage)
        (record,) = await transport.read(Topic.MESSAGES, 0)
        await transport.dead_letter([_letter(record, Reason.UNDECODABLE)])
        (stands,) = await transport.read(Topic.DEAD_LETTERS, 0)
        assert stands.body == garbage
        assert dead_letter_of(stands).reason is Reason.UNDECODABLE


@pytest.mark.asyncio
async def test_dead_letters_are_read_in_order_after_any_position(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        records = await transport.read(Topic.MESSAGES, 0)
        await transport.dead_letter([_letter(record) for record in records[:2]])
        await transport.dead_letter([_letter(records[2])])
        bodies = [record.body for record in records]
        dead_letters = await transport.read(Topic.DEAD_LETTERS, 0)
        assert [each.body for each in dead_letters] == bodies
        for index, each in enumerate(dead_letters):
            rest = await transport.read(Topic.DEAD_LETTERS, 0, after=each.offset)
            assert [later.body for later in rest] == bodies[index + 1 :]


@pytest.mark.asyncio
async def test_no_dead_letters_is_no_write(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.dead_letter([])
        assert not await transport.read(Topic.DEAD_LETTERS, 0)
