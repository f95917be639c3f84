"""What Redis remembers of what was appended: two hashes that take turns (lua/append.lua).

A turn's age is told by the time to live of its hash, so a test lets time pass by shortening that.
"""

from __future__ import annotations

import msgspec
import pytest
from redis.asyncio import Redis

from transport.conformance.member import message
from transport.contract import (
    Appended,
    DeadLetter,
    Envelope,
    Outcome,
    Reason,
    Remembered,
    Topic,
)
from transport.redis import RedisTransport
from transport.redis.keys import dead_letter_log, messages_log
from transport.settings import TransportSettings

ONE, OTHER = messages_log(4).memories()


@pytest.fixture
def kept(settings: TransportSettings) -> int:
    """For how many milliseconds a message is remembered, at least."""
    return settings.idempotency_ttl_seconds * 1000


def _named(transport: RedisTransport) -> dict[str, Envelope]:
    """Messages of one partition by their texts."""
    texts = ("a", "b", "c", "first", "second", "third")
    return {text: message(text, partition=1, of=transport) for text in texts}


async def _publish(transport: RedisTransport, envelope: Envelope) -> Outcome:
    (outcome,) = await transport.publish([envelope])
    return outcome


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
    assert await client.hlen(OTHER) == 1, "nothing is there: either may begin"

    await _turn_is_over(client, kept)
    assert isinstance(await _publish(near, named["second"]), Appended)
    assert await client.hlen(ONE) == 1, "the other one's turn"
    again = await _publish(near, named["first"])
    assert isinstance(again, Remembered)
    assert again.offset == first.offset

    await _turn_is_over(client, kept)
    assert isinstance(await _publish(near, named["third"]), Appended)
    assert await client.hkeys(OTHER) == [named["third"].message_id.encode()], (
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
    assert await client.hlen(OTHER) == 2
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
    assert await client.hlen(OTHER) == 1500
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
        for one, two, name in ((near, other, "a"), (other, near, "b"), (near, other, "c")):
            assert isinstance(await _publish(one, named[name]), Appended)
            assert isinstance(await _publish(two, named[name]), Remembered)
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
