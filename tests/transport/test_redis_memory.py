"""Redis's memory of appended messages: two hashes that take turns (lua/append.lua).

The time to live of a hash shows the age of its turn, so tests let time pass by shortening it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis

from tests.support.eventually import eventually
from transport.conformance.member import Member, drain, message
from transport.contract import (
    WORKER_GROUP,
    Appended,
    Claim,
    DeadLetter,
    Envelope,
    Outcome,
    Reason,
    Record,
    Remembered,
    Topic,
)
from transport.errors import TopicMissing
from transport.redis import RedisTransport
from transport.redis.keys import dead_letter_log, messages_log
from transport.settings import TransportSettings

ONE, OTHER = messages_log(4).memories()
STREAM = "msg:stream:1"
NOTE = (b"seconds",)
"""The further fields of a hash: how long it is written."""


@pytest.fixture
def kept(settings: TransportSettings) -> int:
    """The shortest time for which a message is remembered, in milliseconds."""
    return settings.idempotency_ttl_seconds * 1000


def _named(transport: RedisTransport) -> dict[str, Envelope]:
    """Messages of one partition by their texts."""
    texts = ("a", "b", "c", "first", "second", "third")
    return {text: message(text, partition=1, of=transport) for text in texts}


async def _publish(transport: RedisTransport, envelope: Envelope) -> Outcome:
    (outcome,) = await transport.publish([envelope])
    return outcome


async def _count(client: Redis) -> int:
    """Return the number of messages that the second hash remembers."""
    return int(await client.hlen(OTHER)) - len(NOTE)


async def _turn_is_over(client: Redis, kept: int) -> None:
    """Let ``kept`` milliseconds pass for the hashes."""
    for key in (ONE, OTHER):
        left = await client.pttl(key)
        if left > 0:
            await client.pexpire(key, max(1, left - kept))


async def test_a_message_is_remembered_through_one_turn_and_forgotten_with_the_next(
    near: RedisTransport, client: Redis, kept: int
) -> None:
    named = _named(near)
    first = await _publish(near, named["first"])
    assert isinstance(first, Appended)
    assert await _count(client) == 1, "nothing is there: either may begin"

    await _turn_is_over(client, kept)
    assert isinstance(await _publish(near, named["second"]), Appended)
    assert await client.hlen(ONE) == 1 + len(NOTE), "the other one's turn"
    again = await _publish(near, named["first"])
    assert isinstance(again, Remembered)
    assert again.offset == first.offset

    await _turn_is_over(client, kept)
    assert isinstance(await _publish(near, named["third"]), Appended)
    assert set(await client.hkeys(OTHER)) == {named["third"].message_id.encode(), *NOTE}, (
        "begun anew, nothing left in it"
    )
    assert isinstance(await _publish(near, named["second"]), Remembered)
    assert isinstance(await _publish(near, named["first"]), Appended), "forgotten"


async def test_a_turn_is_used_as_long_as_it_lasts(
    near: RedisTransport, client: Redis, kept: int
) -> None:
    named = _named(near)
    await _publish(near, named["first"])
    await client.pexpire(OTHER, 2 * kept + 30_000)  # nearly over
    await _publish(near, named["second"])
    assert await _count(client) == 2
    assert not await client.exists(ONE)


async def test_what_nobody_appends_to_any_more_is_forgotten_by_itself(
    near: RedisTransport, client: Redis, kept: int
) -> None:
    named = _named(near)
    await _publish(near, named["first"])
    assert 2 * kept < await client.pttl(OTHER) <= 3 * kept


async def test_any_number_of_messages_is_remembered_in_two_keys(
    near: RedisTransport, client: Redis
) -> None:
    envelopes = [message(f"m{n}", partition=n % 4, of=near) for n in range(1500)]
    assert all(isinstance(it, Appended) for it in await near.publish(envelopes))
    assert await client.keys("*:memory:*") == [OTHER.encode()]
    assert await _count(client) == 1500
    assert all(isinstance(it, Remembered) for it in await near.publish(envelopes))
    recalled = await near.recall([e.message_id for e in envelopes])
    assert all(recalled)


async def test_one_id_twice_in_a_call_is_appended_once(near: RedisTransport, client: Redis) -> None:
    twice = [message("same", partition=1, of=near)] * 2
    first, second = await near.publish(twice)
    assert isinstance(first, Appended)
    assert isinstance(second, Remembered)
    assert second.offset == first.offset
    assert await client.xlen("msg:stream:1") == 1


async def test_two_that_remember_for_different_times_see_what_the_other_appended(
    near: RedisTransport, settings: TransportSettings
) -> None:
    named = _named(near)
    longer = settings.model_copy(
        update={"idempotency_ttl_seconds": 5 * settings.idempotency_ttl_seconds}
    )
    async with RedisTransport.from_settings(longer) as other:
        for first, second, name in ((near, other, "a"), (other, near, "b"), (near, other, "c")):
            assert isinstance(await _publish(first, named[name]), Appended)
            assert isinstance(await _publish(second, named[name]), Remembered)
        # Each began a turn of its own at most: what the first one appended is still known.
        assert isinstance(await _publish(other, named["a"]), Remembered)


def test_the_logs_remember_apart() -> None:
    assert not set(messages_log(4).memories()) & set(dead_letter_log().memories())


async def test_more_dead_letters_than_one_call_takes_are_each_appended_once(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish([message("poison", partition=1, of=near)])
    (record,) = await near.read(Topic.MESSAGES, 1)
    letters = [
        DeadLetter(
            msgspec.structs.replace(record, offset=f"1-{n}"),
            Reason.REJECTED,
            "why",
            attempts=1,
            failed_at="now",
        )
        for n in range(4_500)
    ]
    for _ in range(2):  # the second is what a worker sends whose answer was lost
        await near.dead_letter(letters)
        assert await client.xlen("msg:dlq") == len(letters)


async def _read_and_acknowledge(claim: Claim, count: int) -> list[Record]:
    records = await drain(claim, count, patience=10.0)
    await claim.ack(records[-1].offset)
    return records


@asynccontextmanager
async def _claim_that_has_read(
    transport: RedisTransport, *envelopes: Envelope
) -> AsyncIterator[Claim]:
    """Append these, and yield the claim of a member that has acknowledged them."""
    async with Member(transport) as member:
        claim = await member.claim(1)
        await transport.publish(envelopes)
        await _read_and_acknowledge(claim, len(envelopes))
        yield claim


async def test_what_was_acknowledged_and_trimmed_is_answered_from_memory(
    near: RedisTransport, client: Redis
) -> None:
    named = _named(near)
    async with _claim_that_has_read(near, named["first"], named["second"]):
        await client.xtrim(STREAM, maxlen=0, approximate=False)
        assert isinstance(await _publish(near, named["first"]), Remembered)
        (stands,) = await near.recall([named["second"].message_id])
        assert stands is not None
        assert await client.xlen(STREAM) == 0


@pytest.mark.parametrize("harm", ["xdel", "xtrim", "unlink"])
async def test_what_was_removed_unread_is_appended_again_at_its_next_repeat(
    near: RedisTransport, client: Redis, harm: str
) -> None:
    """At once; after others were read past its place; and after that was acknowledged."""
    named = _named(near)
    async with Member(near) as member:
        claim = await member.claim(1)
        gone = [named[name] for name in ("first", "second", "third")]
        offsets = [it.offset for it in await near.publish(gone) if isinstance(it, Appended)]
        if harm == "xdel":
            await client.xdel(STREAM, *offsets)
        elif harm == "xtrim":
            await client.xtrim(STREAM, maxlen=0, approximate=False)
        else:
            await client.unlink(STREAM)
        assert isinstance(await _publish(near, gone[0]), Appended)
        assert isinstance(await _publish(near, gone[0]), Remembered), "one repeat, one record"

        async def read_past() -> list[Record]:
            try:
                return list(await claim.next(max_records=10, max_wait=0.1))
            except TopicMissing:
                return []

        records = await eventually(read_past)
        assert isinstance(await _publish(near, gone[1]), Appended), "read past, not acknowledged"
        await claim.ack(records[-1].offset)
        assert isinstance(await _publish(near, gone[2]), Appended), "acknowledged past it"
        assert await _read_and_acknowledge(claim, 2)
        for envelope in gone:
            assert isinstance(await _publish(near, envelope), Remembered), "now it has a record"


async def test_one_deleted_of_those_delivered_is_appended_again(
    near: RedisTransport, client: Redis
) -> None:
    named = _named(near)
    async with Member(near) as member:
        claim = await member.claim(1)
        first, _ = await near.publish([named["first"], named["second"]])
        await drain(claim, 2, patience=10.0)
        assert isinstance(first, Appended)
        await client.xdel(STREAM, first.offset)
        assert isinstance(await _publish(near, named["first"]), Appended)
        assert isinstance(await _publish(near, named["second"]), Remembered)


async def test_a_stream_made_by_hand_answers_for_nothing_that_was_in_another(
    near: RedisTransport, client: Redis
) -> None:
    named = _named(near)
    async with _claim_that_has_read(near, named["a"], named["b"]) as claim:
        await near.publish([named["first"], named["second"]])
        await client.delete(STREAM)
        await client.xgroup_create(STREAM, WORKER_GROUP, "0", mkstream=True)
        assert isinstance(await _publish(near, named["c"]), Appended)
        await drain(claim, 1, patience=10.0)
        assert isinstance(await _publish(near, named["first"]), Appended)
        await _read_and_acknowledge(claim, 1)
        assert isinstance(await _publish(near, named["second"]), Appended)


async def test_memory_that_came_back_from_either_turn_is_judged_alike(
    near: RedisTransport, client: Redis, kept: int
) -> None:
    """The lost record is remembered in the older turn, its repeat in the newer."""
    named = _named(near)
    await _publish(near, named["first"])
    await _turn_is_over(client, kept)
    await _publish(near, named["second"])
    await client.delete(STREAM)
    again = await _publish(near, named["first"])
    assert isinstance(again, Appended)
    (known,) = await near.recall([named["first"].message_id])
    assert known is not None
    assert known.offset == again.offset
    assert isinstance(await _publish(near, named["first"]), Remembered)
