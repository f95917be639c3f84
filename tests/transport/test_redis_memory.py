"""Redis's memory of appended messages: two hashes that take turns (lua/append.lua).

The time to live of a hash shows the age of its turn, so tests let time pass by shortening it.
"""

from __future__ import annotations

import msgspec
import pytest
from redis.asyncio import Redis

from tests.transport.settler import settle
from transport.conformance.envelopes import message
from transport.contract import (
    WORKER_GROUP,
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


async def test_what_was_settled_and_trimmed_is_answered_from_memory(
    near: RedisTransport, client: Redis
) -> None:
    named = _named(near)
    await near.publish([named["first"], named["second"]])
    await settle(near, 2, partition=1)
    await client.xtrim(STREAM, maxlen=0, approximate=False)
    assert isinstance(await _publish(near, named["first"]), Remembered)
    (stands,) = await near.recall([named["second"].message_id])
    assert stands is not None
    assert await client.xlen(STREAM) == 0


@pytest.mark.parametrize("harm", ["xdel", "xtrim", "unlink"])
async def test_what_was_removed_unread_is_appended_again_at_its_next_repeat(
    near: RedisTransport, client: Redis, harm: str
) -> None:
    """At once; and after the position passed it."""
    named = _named(near)
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
    assert isinstance(await _publish(near, gone[1]), Appended)
    await settle(near, 2, partition=1)
    assert isinstance(await _publish(near, gone[2]), Appended), "the position passed it"
    for envelope in gone:
        assert isinstance(await _publish(near, envelope), Remembered), "now it has a record"


async def test_one_deleted_of_those_read_is_appended_again(
    near: RedisTransport, client: Redis
) -> None:
    named = _named(near)
    first, _ = await near.publish([named["first"], named["second"]])
    assert len(await near.read(Topic.MESSAGES, 1)) == 2
    assert isinstance(first, Appended)
    await client.xdel(STREAM, first.offset)
    assert isinstance(await _publish(near, named["first"]), Appended)
    assert isinstance(await _publish(near, named["second"]), Remembered)


async def test_a_stream_made_by_hand_answers_for_nothing_that_was_in_another(
    near: RedisTransport, client: Redis
) -> None:
    named = _named(near)
    await near.publish([named["a"], named["b"]])
    await settle(near, 2, partition=1)
    await near.publish([named["first"], named["second"]])
    await client.delete(STREAM)
    await client.xgroup_create(STREAM, WORKER_GROUP, "0", mkstream=True)
    assert isinstance(await _publish(near, named["c"]), Appended)
    assert isinstance(await _publish(near, named["first"]), Appended)
    await settle(near, 2, partition=1)
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
