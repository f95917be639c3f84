"""Partitions that are claimed again while records of them, or their group, are in between."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaError

from tests.support.eventually import eventually
from tests.support.kafka_internals import (
    after_offers,
    buffered_partitions,
    claiming_tasks,
    client_of,
    continuity_of,
    fetched_past,
    hear_of_another_topic,
    ids_of,
    membership_of,
)
from transport.conformance.member import Member, contents, drain, message, messages
from transport.contract import Claim
from transport.errors import PartitionLost
from transport.kafka import KafkaTransport
from transport.kafka.delivery.claim import KafkaClaim


async def test_records_in_hand_are_not_for_a_claim_that_was_made_meanwhile(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new claim begins further back. They would make it skip what was not acknowledged."""
    async with Member(kafka_transport) as member:
        first, checked, other = [await member.claim(partition) for partition in range(3)]
        texts = ["delivered", "and", "not acknowledged"]
        await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
        await drain(first, 3, patience=20)
        continuity = continuity_of(member.consumer)
        compare, compared = continuity.broken, asyncio.Queue[list[int]]()
        turns = asyncio.Semaphore(0)

        async def slowly(claims: list[KafkaClaim]) -> object:
            await compared.put([claim.partition for claim in claims])
            await turns.acquire()
            return await compare(claims)

        monkeypatch.setattr(continuity, "broken", slowly)
        # The first records of a claim are taken in after a comparison, which waits here. Meanwhile
        # the client fetches records of two partitions, and returns them together.
        await _publish_and_fetch(kafka_transport, member, 2, buffered=False)
        assert await asyncio.wait_for(compared.get(), 10) == [other.partition]
        await _publish_and_fetch(kafka_transport, member, 1, buffered=True)
        await _publish_and_fetch(kafka_transport, member, 0, buffered=True)
        turns.release()
        assert await asyncio.wait_for(compared.get(), 10) == [checked.partition]
        await first.__aexit__(None, None, None)
        again = await _another(member, first)
        for _ in range(10):
            turns.release()
        assert contents(await drain(again, 4, patience=20)) == [*texts, "of 0"]


async def _publish_and_fetch(
    transport: KafkaTransport, member: Member, partition: int, *, buffered: bool
) -> None:
    text = f"of {partition}"
    await transport.publish([message(text, partition=partition, of=transport)])
    if buffered:
        await eventually(lambda: partition in buffered_partitions(member.consumer), 10.0)


async def test_nothing_is_claimed_any_more_once_the_group_has_revoked_it(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an attempt would go on for ever, or claim a second time what the group gives back."""
    async with Member(kafka_transport) as member:
        being_claimed, left = await member.claim(0), await member.claim(1)
        ids, asked, connected = ids_of(kafka_transport), asyncio.Event(), asyncio.Event()
        describe = ids.describe

        async def connecting(name: str) -> object:
            asked.set()
            try:
                await connected.wait()
            except asyncio.CancelledError:
                await connected.wait()  # as a client that is being started: it is not abandoned
                raise
            return await describe(name)

        with monkeypatch.context() as patch:
            patch.setattr(ids, "describe", connecting)
            await being_claimed.__aexit__(None, None, None)
            await asyncio.wait_for(asked.wait(), 10)
            revoking = asyncio.create_task(
                membership_of(member.consumer).on_partitions_revoked(set())
            )
            await asyncio.sleep(0)  # it waits for the attempt to end
            await left.__aexit__(None, None, None)
            connected.set()
            await revoking
        assert not claiming_tasks(member.consumer)


async def test_a_claim_that_is_left_by_a_wrong_word_about_the_topic_is_made_again(
    kafka_transport: KafkaTransport,
) -> None:
    """Just after a topic was made anew, not every broker knows it. No rebalance follows."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        hear_of_another_topic(kafka_transport)
        with pytest.raises(PartitionLost):
            await claim.next(max_records=1, max_wait=0.0)
        await claim.__aexit__(None, None, None)
        await kafka_transport.identity()  # a broker that knows better
        await kafka_transport.publish([message("read", partition=0, of=kafka_transport)])
        again = await _another(member, claim)
        assert contents(await drain(again, 1, patience=20)) == ["read"]


async def test_records_that_came_during_a_wrong_word_about_the_topic_are_read_again(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        await kafka_transport.publish([message("before", partition=0, of=kafka_transport)])
        await drain(claim, 1, patience=20)
        ids, answer = ids_of(kafka_transport), asyncio.Event()
        describe = ids.describe

        async def later(name: str) -> object:
            await answer.wait()
            return await describe(name)

        monkeypatch.setattr(ids, "describe", later)
        texts = ["came", "meanwhile"]
        hear_of_another_topic(kafka_transport)
        await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
        await fetched_past(member.consumer, 0, 3)
        answer.set()
        await eventually(lambda: claim.owned, 10.0)  # type: ignore[attr-defined]
        await kafka_transport.publish([message("after", partition=0, of=kafka_transport)])
        assert contents(await drain(claim, 3, patience=20)) == [*texts, "after"]


async def test_records_are_read_again_if_a_wrong_word_about_the_topic_comes_during_a_comparison(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison itself asks a broker for the topic."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        continuity, compared = continuity_of(member.consumer), asyncio.Event()
        compare = continuity.broken

        async def comparing(claims: list[KafkaClaim]) -> object:
            found = await compare(claims)
            if not compared.is_set():
                hear_of_another_topic(kafka_transport)
                compared.set()
            return found

        monkeypatch.setattr(continuity, "broken", comparing)
        await _all_are_read(kafka_transport, claim, compared)


async def test_records_are_read_again_after_an_error_beside_a_wrong_word_about_the_topic(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in one partition drops what was fetched of the others."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        client, asked, failed = client_of(member.consumer), asyncio.Event(), asyncio.Event()
        getmany = client.getmany

        async def failing(*partitions: object, **options: object) -> object:
            asked.set()
            fetched = await getmany(*partitions, **options)
            if fetched and not failed.is_set():
                hear_of_another_topic(kafka_transport)
                failed.set()
                raise KafkaError("of another partition")
            return fetched

        monkeypatch.setattr(client, "getmany", failing)
        await asyncio.wait_for(asked.wait(), 10)
        await _all_are_read(kafka_transport, claim, failed)


async def _all_are_read(transport: KafkaTransport, claim: Claim, missed: asyncio.Event) -> None:
    """Publish records that are ``missed``, and one more; check that all are read."""
    texts = ["came", "meanwhile"]
    await transport.publish(messages(texts, partition=0, of=transport))
    await asyncio.wait_for(missed.wait(), 20)
    await eventually(lambda: claim.owned, 10.0)  # type: ignore[attr-defined]
    await transport.publish([message("after", partition=0, of=transport)])
    assert contents(await drain(claim, 3, patience=20)) == [*texts, "after"]


async def test_a_claim_is_offered_beside_a_wrong_word_about_the_topic(
    kafka_transport: KafkaTransport,
) -> None:
    """If it were not, nobody would read its partition until the next rebalance."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        after_offers(member.consumer, lambda: hear_of_another_topic(kafka_transport))
        await claim.__aexit__(None, None, None)
        again = await _another(member, claim)
        await kafka_transport.identity()
        await kafka_transport.publish([message("read", partition=0, of=kafka_transport)])
        assert contents(await drain(again, 1, patience=20)) == ["read"]


async def test_a_revoked_claim_is_not_made_again_after_a_wrong_word_about_the_topic(
    kafka_transport: KafkaTransport,
) -> None:
    """The attempt would outlive the revocation, and commit in the next generation."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        await claim.__aenter__()
        hear_of_another_topic(kafka_transport)
        membership = membership_of(member.consumer)
        revoking = asyncio.create_task(membership.on_partitions_revoked(set()))
        await asyncio.sleep(0)  # it waits for the claim's user
        await claim.__aexit__(None, None, None)
        await revoking
        assert not claiming_tasks(member.consumer)


async def _another(member: Member, claim: Claim) -> Claim:
    await eventually(lambda: member.claims[claim.partition] is not claim, 30.0)
    return member.claims[claim.partition]
