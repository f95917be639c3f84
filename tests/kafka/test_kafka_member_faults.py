"""Members of a group: outages, stalls, fences, and what a group is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from contextlib import AsyncExitStack

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from compose.local.kafka import KafkaServer
from tests.kafka.kafka_backend import silence
from tests.support.eventually import eventually
from tests.support.kafka_internals import client_of, commits_of, stop_fetching
from transport.conformance.member import Member, contents, drain, message, messages
from transport.contract import WORKER_GROUP, Claim, Progress, Topic
from transport.errors import ConfigurationError, PartitionLost, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


async def _progress(transport: KafkaTransport, partition: int = 0) -> Progress:
    return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[partition]


async def test_a_long_outage_elsewhere_costs_neither_membership_nor_memory(
    kafka_transport: KafkaTransport,
) -> None:
    """PostgreSQL is down: records are held and not acknowledged, far longer than a lease."""
    # Before there is a member: making so many in this process would keep it from its heartbeats.
    for start in range(0, 20_000, 2_000):
        texts = [str(i) for i in range(start, start + 2_000)]
        await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        held = await drain(claim, 100, patience=20)
        began = time.monotonic()
        while time.monotonic() - began < 4.0:  # four leases
            await kafka_transport.ping()
            await asyncio.sleep(0.2)
        window = claim.window  # type: ignore[attr-defined]
        assert window.full, "what nobody takes is not fetched"
        assert window.ready < 10_000
        await claim.nack()
        again = await drain(claim, 20_000, patience=60)
        assert [r.offset for r in again[:100]] == [r.offset for r in held]
        assert contents(again) == [str(i) for i in range(20_000)]
        await claim.ack(again[-1].offset)
        assert member.claims[0] is claim, "it was never revoked"
        assert (await _progress(kafka_transport)).lag == 0


async def test_a_consumer_that_stalls_in_silence_is_noticed_and_replaced(
    kafka_transport: KafkaTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """Aiokafka issue 1154: the fetching task ends, and nothing says so."""
    async with Member(kafka_transport) as member:
        first = await member.claim(0)
        stop_fetching(member.consumer)
        # A fetch that may be under way at the broker still comes back with what ends its wait.
        await kafka_transport.publish([message("seen", partition=0, of=kafka_transport)])
        await first.next(max_records=1, max_wait=2.0)
        await kafka_transport.publish([message("unseen", partition=0, of=kafka_transport)])
        told: list[str] = []

        async def replaced() -> bool:
            try:
                await kafka_transport.ping()
            except TransportUnavailable as error:
                told.append(str(error))
            return member.claims[0] is not first

        with caplog.at_level(logging.WARNING, "transport.kafka"):
            await eventually(replaced, 30.0)
        assert "Kafka can't be read" in caplog.text
        assert any("none came for" in text for text in told), "readiness was red meanwhile"
        with pytest.raises(PartitionLost):
            await first.next(max_records=1, max_wait=0)
        assert contents(await drain(member.claims[0], 2, patience=20)) == ["seen", "unseen"]
        await eventually(lambda: _healthy(kafka_transport))


async def test_nothing_is_kept_of_a_client_that_was_replaced(
    kafka_transport: KafkaTransport,
) -> None:
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        client = weakref.ref(client_of(member.consumer))
        stop_fetching(member.consumer)
        # A fetch that may be under way at the broker still comes back with what ends its wait.
        await kafka_transport.publish([message("seen", partition=0, of=kafka_transport)])
        await claim.next(max_records=1, max_wait=2.0)
        del claim
        await kafka_transport.publish([message("unseen", partition=0, of=kafka_transport)])
        await eventually(lambda: client_of(member.consumer) is not client(), 30.0)
        member.claims.clear()

        def gone() -> bool:
            gc.collect()
            return client() is None

        await eventually(gone, 15.0, every=0.2)


async def _healthy(transport: KafkaTransport) -> bool:
    try:
        await transport.ping()
    except TransportUnavailable:
        return False
    return True


async def test_a_member_that_has_no_partition_is_well_after_an_outage(
    kafka_server: KafkaServer, kafka_settings: TransportSettings
) -> None:
    alone = kafka_settings.model_copy(update={"stream_partitions": 1})
    async with KafkaTransport(alone) as transport, AsyncExitStack() as stack:
        await kafka_server.kill()
        members = [
            await stack.enter_async_context(
                transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member=name)
            )
            for name in "abcde"
        ]
        await eventually(lambda: all(member.fault for member in members), 20.0)
        await kafka_server.start()
        await eventually(lambda: _healthy(transport), 30.0)
        await eventually(
            lambda: sorted(len(m.claims_now) for m in members) == [0, 0, 0, 0, 1], 30.0
        )


async def test_a_broker_that_is_gone_is_told_to_whoever_waits(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport
) -> None:
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        await kafka_server.stop()
        with pytest.raises(TransportUnavailable):
            async with asyncio.timeout(20):
                while True:
                    assert not await claim.next(max_records=1, max_wait=5.0)
        with pytest.raises(TransportUnavailable):
            await kafka_transport.ping()
        await kafka_server.start()
        await eventually(lambda: _healthy(kafka_transport), 30.0)


async def test_a_member_that_was_suspended_hands_nothing_out_before_it_has_asked(
    kafka_settings: TransportSettings,
) -> None:
    """What it had fetched may be another's by now; the clock says so before any heartbeat does."""
    async with (
        KafkaTransport(kafka_settings) as transport,
        KafkaTransport(kafka_settings) as other,
        AsyncExitStack() as stack,
    ):
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        stale = await stack.enter_async_context(Member(transport, "stale"))
        old = await stale.claim(0)
        assert contents(await old.next(max_records=1, max_wait=10)) == ["a"]
        await silence(stale.consumer)
        heir = await stack.enter_async_context(Member(other, "heir"))
        claim = await heir.claim(0)
        assert old.window.ready, "it holds records that it could hand out"  # type: ignore[attr-defined]
        with pytest.raises(PartitionLost):
            await old.next(max_records=1, max_wait=0)
        assert claim.epoch > old.epoch


async def test_a_refused_acknowledgement_moves_nothing(kafka_transport: KafkaTransport) -> None:
    await kafka_transport.publish(messages(list("abc"), partition=0, of=kafka_transport))
    async with AsyncExitStack() as stack:
        stale = await stack.enter_async_context(Member(kafka_transport, "stale"))
        old = await stale.claim(0)
        records = await drain(old, 3, patience=20)
        await silence(stale.consumer)
        heir = await stack.enter_async_context(Member(kafka_transport, "heir"))
        claim = await heir.claim(0)
        (first,) = await claim.next(max_records=1, max_wait=10)
        await claim.ack(first.offset)
        with pytest.raises(PartitionLost):
            await old.ack(records[-1].offset)
        progress = await _progress(kafka_transport)
        assert (progress.floor, progress.owner) == (first.offset, "heir")


async def test_records_removed_unread_are_counted_for_good(
    kafka_server: KafkaServer, kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    await kafka_transport.publish(messages(list("abcdef"), partition=0, of=kafka_transport))
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        records = await drain(claim, 2, patience=20)
        await claim.ack(records[-1].offset)
    at = TopicPartition(kafka_settings.kafka_topic, 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
    await admin.start()
    await admin.delete_records({at: RecordsToDelete(before_offset=5)})
    await admin.close()
    progress = await _progress(kafka_transport)
    assert (progress.lag, progress.lost) == (1, 3)
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        (last,) = await drain(claim, 1, patience=20)
        assert contents([last]) == ["f"]
        await claim.ack(last.offset)
    progress = await _progress(kafka_transport)
    assert (progress.lag, progress.lost) == (0, 3), "an incident does not heal by itself"


async def test_records_removed_under_a_claim_are_counted_too(
    kafka_server: KafkaServer, kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    at = TopicPartition(kafka_settings.kafka_topic, 0)
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        client = client_of(member.consumer)
        client.pause(at)
        await asyncio.sleep(0.6)  # a fetch that was under way when it was paused has ended
        await kafka_transport.publish(messages(list("abcdef"), partition=0, of=kafka_transport))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
        await admin.start()
        await admin.delete_records({at: RecordsToDelete(before_offset=4)})
        await admin.close()
        client.resume(at)
        records = await drain(claim, 2, patience=20)
        assert contents(records) == ["e", "f"]
        await claim.ack(records[-1].offset)
    progress = await _progress(kafka_transport)
    assert (progress.lag, progress.lost) == (0, 4)


async def test_a_topic_that_another_process_made_anew_is_another_topic(
    kafka_server: KafkaServer, kafka_settings: TransportSettings
) -> None:
    """Its offsets are not ours to commit. The member that saw unread records reports them."""
    async with AsyncExitStack() as stack:
        worker, witness = [
            await stack.enter_async_context(KafkaTransport(kafka_settings)) for _ in range(2)
        ]
        await witness.publish(messages(list("abcde"), partition=0, of=witness))
        async with Member(worker, "worker") as member:
            claim = await member.claim(0)
            held = await drain(claim, 5, patience=20)
            await claim.ack(held[1].offset)
            assert (await _progress(witness)).lag == 3
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
            await admin.start()
            await admin.delete_topics([kafka_settings.kafka_topic])
            await admin.close()
            successor = await stack.enter_async_context(KafkaTransport(kafka_settings))
            await successor.publish(messages(list("vwxyz"), partition=0, of=successor))
            # While it is only asked to hand back, its acknowledgement still counts.
            await eventually(lambda: claim.lost, 20.0)  # type: ignore[attr-defined]
            with pytest.raises(PartitionLost):
                await claim.ack(held[-1].offset)
            assert (await _progress(witness)).lost == 3, "it claims nothing, and it knows"
            renewed = await _another_claim(member, claim)
            assert contents(await drain(renewed, 5, patience=20)) == list("vwxyz")
        assert (await _progress(successor)).lost == 3, "the new topic's mark has it"
    async with KafkaTransport(kafka_settings) as restarted:
        assert (await _progress(restarted)).lost == 3


async def _another_claim(member: Member, old: Claim) -> Claim:
    await eventually(lambda: member.claims[old.partition] is not old, 30.0)
    return member.claims[old.partition]


async def test_a_named_process_comes_back_without_a_rebalance(
    kafka_settings: TransportSettings,
) -> None:
    """Static membership: the others keep their claims while it restarts."""
    fixed = {"stream_lease_ms": 6000}
    one, two = (
        kafka_settings.model_copy(update={**fixed, "kafka_group_instance_id": f"pod-{i}"})
        for i in (1, 2)
    )
    async with (
        KafkaTransport(one) as first,
        KafkaTransport(two) as second,
        Member(first, "first") as stays,
    ):
        async with Member(second, "second") as restarts:
            # Whichever joins first has all four for a moment.
            await eventually(lambda: len(_held(stays)) == len(_held(restarts)) == 2, 30.0)
            kept, gone = _held(stays), _held(restarts)
        async with Member(second, "second-again") as restarted:
            await eventually(lambda: len(_held(restarted)) == 2, 30.0)
            back = _held(restarted)
            assert back.keys() == gone.keys()
            assert all(back[p].epoch > gone[p].epoch for p in gone)
        assert _held(stays) == kept, "no rebalance: its claims are as they were"


async def test_two_processes_with_one_name_are_told_which_setting_to_mend(
    kafka_settings: TransportSettings,
) -> None:
    """Each takes the membership from the other one, for as long as both run."""
    same = kafka_settings.model_copy(update={"kafka_group_instance_id": "pod-0"})
    async with (
        KafkaTransport(same) as first,
        KafkaTransport(same) as second,
        Member(first, "first") as one,
        Member(second, "second") as other,
    ):

        def told() -> bool:
            faults = [str(m.consumer.fault) for m in (one, other)]  # type: ignore[attr-defined]
            return any("KAFKA_GROUP_INSTANCE_ID of its own" in fault for fault in faults)

        await eventually(told, 45.0)


def _held(member: Member) -> dict[int, Claim]:
    """The claims that it has now; ``claims`` has every one it was ever given."""
    return {p: claim for p, claim in member.claims.items() if claim.owned}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error", [PartitionLost("refused, and no rebalance"), RuntimeError("a fault of ours")], ids=repr
)
async def test_a_partition_that_could_not_be_claimed_is_claimed_later(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The group says that it is ours, so no other member would ever read it."""
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        commits = commits_of(member.consumer)
        refused = asyncio.Event()

        async def refuse(_: object) -> None:
            refused.set()
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(commits, "commit", refuse)
            await claim.__aexit__(None, None, None)
            await asyncio.wait_for(refused.wait(), 10)
        await kafka_transport.publish([message("read", partition=0, of=kafka_transport)])
        again = await _another_claim(member, claim)
        assert contents(await drain(again, 1, patience=20)) == ["read"]


async def test_a_lease_that_the_broker_will_not_have_is_told(
    kafka_settings: TransportSettings,
) -> None:
    settings = kafka_settings.model_copy(update={"stream_lease_ms": 3_600_000})
    async with KafkaTransport(settings) as transport:
        consumer = transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member="patient")
        async with consumer:
            with pytest.raises(ConfigurationError, match="STREAM_LEASE_MS"):
                async for _ in consumer.claims():
                    pass
