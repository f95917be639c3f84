"""Ownership: one owner for each partition, fair shares, and no harm from a former owner."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from transport.conformance.backend import Backend
from transport.conformance.member import (
    ConformanceWorker,
    Member,
    contents,
    drain,
    message,
    messages,
    until,
)
from transport.contract import Claim, Transport, WithdrawingConsumer
from transport.errors import PartitionLost


@pytest.mark.asyncio
async def test_a_lone_member_is_given_every_partition(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await until(lambda: len(member.claims) == transport.partitions, patience=backend.patience)
        assert sorted(member.claims) == list(range(transport.partitions))


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [2, 3])
async def test_members_that_join_get_a_fair_share(backend: Backend, count: int) -> None:
    async with backend.create() as transport, AsyncExitStack() as stack:
        workers = [ConformanceWorker(transport, f"worker-{i}") for i in range(count)]
        for worker in workers:
            await stack.enter_async_context(worker.working())
            await until(lambda w=worker: bool(w.owned), patience=backend.patience)  # type: ignore[misc]
        await until(lambda: _is_fair(transport, workers), patience=backend.patience)


@pytest.mark.asyncio
async def test_partitions_of_a_member_that_leaves_go_to_the_others(backend: Backend) -> None:
    async with backend.create() as transport, AsyncExitStack() as stack:
        stays, leaves = (
            ConformanceWorker(transport, "stays"),
            ConformanceWorker(transport, "leaves"),
        )
        await stack.enter_async_context(stays.working())
        async with leaves.working():
            await until(lambda: _is_fair(transport, [stays, leaves]), patience=backend.patience)
        await until(lambda: _is_fair(transport, [stays]), patience=backend.patience)


@pytest.mark.asyncio
async def test_each_claim_of_a_member_that_withdraws_is_for_others_once_handed_back(
    backend: Backend,
) -> None:
    """The slowest of its claims does not delay the others."""
    async with backend.create() as transport, Member(transport, "leaves") as leaves:
        if not isinstance(leaves.consumer, WithdrawingConsumer):
            pytest.skip("a member leaves with all its partitions at once")
        slow, *others = [await leaves.claim(p) for p in range(transport.partitions)]
        await leaves.consumer.withdraw()
        async with Member(transport, "stays") as stays:
            for claim in others:
                async with claim:
                    pass
            for claim in others:
                assert (await stays.claim(claim.partition)).epoch > claim.epoch
            assert slow.partition not in stays.claims
            assert await slow.next(max_records=1, max_wait=0.0) == []


@pytest.mark.asyncio
async def test_nothing_is_lost_doubled_or_reordered_while_members_come_and_go(
    backend: Backend,
) -> None:
    async with backend.create() as transport, AsyncExitStack() as stack:
        sent = {p: [f"{p}:{i}" for i in range(60)] for p in range(transport.partitions)}
        seen: list[ConformanceWorker] = []

        async def publish() -> None:
            for i in range(60):
                await transport.publish(
                    [message(texts[i], partition=p, of=transport) for p, texts in sent.items()]
                )
                await asyncio.sleep(0.005)

        async def come_and_go() -> None:
            for i in range(3):
                worker = ConformanceWorker(transport, f"guest-{i}")
                seen.append(worker)
                async with worker.working():
                    await until(lambda w=worker: bool(w.owned), patience=backend.patience)  # type: ignore[misc]
                    await asyncio.sleep(0.05)

        host = ConformanceWorker(transport, "host")
        seen.append(host)
        await stack.enter_async_context(host.working())
        await asyncio.gather(publish(), come_and_go())

        def arrived() -> bool:
            # A record whose acknowledgement was cut off is delivered again, and counts once.
            places = {(r.partition, r.offset) for worker in seen for r in worker.records}
            return len(places) >= 60 * transport.partitions

        await until(arrived, patience=backend.patience)
        for partition, texts in sent.items():
            records = [r for worker in seen for r in worker.records if r.partition == partition]
            # A batch is delivered again if its worker left before the acknowledgement.
            once = {record.offset: record for record in records}
            in_order = sorted(once.values(), key=lambda r: transport.sort_key(r.offset))
            assert contents(in_order) == texts


@pytest.mark.asyncio
async def test_an_owner_that_must_leave_finishes_its_batch_first(backend: Backend) -> None:
    async with backend.create() as transport, AsyncExitStack() as stack:
        old = await stack.enter_async_context(Member(transport, "old"))
        await until(lambda: len(old.claims) == transport.partitions, patience=backend.patience)
        for partition in old.claims:
            await transport.publish(messages(list("abc"), partition=partition, of=transport))
        batches = {
            p: await drain(claim, 2, patience=backend.patience) for p, claim in old.claims.items()
        }
        new = await stack.enter_async_context(Member(transport, "new"))
        moved = await _first_to_lose(old, backend)
        left = old.claims[moved]
        await left.ack(batches[moved][-1].offset)
        await left.__aexit__(None, None, None)

        def later() -> list[Claim]:
            """Return the claims after the one that was left.

            If all partitions are revoked (Kafka), the same member may get it again.
            """
            owners = [member.claims.get(moved) for member in (new, old)]
            return [claim for claim in owners if claim is not None and claim is not left]

        await until(lambda: bool(later()), patience=backend.patience)
        assert contents(await drain(later()[0], 1, patience=backend.patience)) == ["c"]


@pytest.mark.asyncio
async def test_a_member_not_heard_of_loses_its_partitions(backend: Backend) -> None:
    backend.need("silence")
    assert backend.silence is not None
    async with backend.create() as transport, AsyncExitStack() as stack:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        gone = await stack.enter_async_context(Member(transport, "gone"))
        old = await gone.claim(0)
        records = await drain(old, 2, patience=backend.patience)
        await old.ack(records[0].offset)
        await backend.silence(gone.consumer)
        heir = await stack.enter_async_context(Member(transport, "heir"))
        claim = await heir.claim(0)
        assert contents(await drain(claim, 2, patience=backend.patience)) == ["b", "c"]


@pytest.mark.asyncio
async def test_a_stale_owner_can_neither_read_nor_acknowledge(backend: Backend) -> None:
    backend.need("silence")
    assert backend.silence is not None
    async with backend.create() as transport, AsyncExitStack() as stack:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        stale = await stack.enter_async_context(Member(transport, "stale"))
        old = await stale.claim(0)
        records = await drain(old, 2, patience=backend.patience)
        await backend.silence(stale.consumer)
        heir = await stack.enter_async_context(Member(transport, "heir"))
        claim = await heir.claim(0)
        with pytest.raises(PartitionLost):
            await old.ack(records[-1].offset)
        with pytest.raises(PartitionLost):
            await old.next(max_records=10, max_wait=0)
        assert contents(await drain(claim, 3, patience=backend.patience)) == list("abc")


@pytest.mark.asyncio
async def test_epochs_rise_with_every_owner(backend: Backend) -> None:
    async with backend.create() as transport:
        epochs = []
        for name in ("one", "two", "two", "three"):
            async with Member(transport, name) as member:
                epochs.append((await member.claim(0)).epoch)
        assert epochs == sorted(set(epochs)), "strictly rising"
        assert epochs[0] > 1_600_000_000_000, "from a clock in milliseconds"


@pytest.mark.asyncio
async def test_an_owner_raises_its_epoch_above_any_and_goes_on(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        async with Member(transport, "one") as member:
            claim = await member.claim(0)
            records = await drain(claim, 1, patience=backend.patience)
            hour_ahead = claim.epoch + 3_600_000
            await claim.raise_epoch(hour_ahead)
            raised = claim.epoch
            assert raised > hour_ahead
            await claim.raise_epoch(hour_ahead)
            assert claim.epoch > hour_ahead, "asked again, as after an answer that was lost"
            await claim.ack(records[0].offset)
            assert contents(await drain(claim, 2, patience=backend.patience)) == ["b", "c"]
            raised = claim.epoch
        async with Member(transport, "two") as member:
            claim = await member.claim(0)
            assert claim.epoch > raised
            assert contents(await drain(claim, 2, patience=backend.patience)) == ["b", "c"]


@pytest.mark.asyncio
async def test_a_stale_owner_can_not_raise_its_epoch(backend: Backend) -> None:
    backend.need("silence")
    assert backend.silence is not None
    async with backend.create() as transport, AsyncExitStack() as stack:
        await transport.publish(messages(list("ab"), partition=0, of=transport))
        stale = await stack.enter_async_context(Member(transport, "stale"))
        old = await stale.claim(0)
        await backend.silence(stale.consumer)
        heir = await stack.enter_async_context(Member(transport, "heir"))
        claim = await heir.claim(0)
        with pytest.raises(PartitionLost):
            await old.raise_epoch(claim.epoch + 3_600_000)
        assert contents(await drain(claim, 2, patience=backend.patience)) == ["a", "b"]


@pytest.mark.asyncio
async def test_a_partition_handed_back_is_claimed_anew(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("ab"), partition=0, of=transport))
        first = await member.claim(0)
        async with first:
            records = await drain(first, 2, patience=backend.patience)
            await first.ack(records[0].offset)
        await until(lambda: member.claims[0] is not first, patience=backend.patience)
        second = await member.claim(0)
        assert second.epoch > first.epoch
        with pytest.raises(PartitionLost):
            await first.next(max_records=1, max_wait=0)
        with pytest.raises(PartitionLost):
            await first.ack(records[1].offset)
        assert contents(await drain(second, 1, patience=backend.patience)) == ["b"]


@pytest.mark.asyncio
async def test_closing_ends_every_claim_and_every_wait(backend: Backend) -> None:
    async with backend.create() as transport:
        async with Member(transport) as member:
            claim = await member.claim(0)
            await transport.publish([message("held", partition=0, of=transport)])
            (held,) = await drain(claim, 1, patience=backend.patience)
            waiting = asyncio.ensure_future(claim.next(max_records=10, max_wait=60.0))
            await asyncio.sleep(0.1)
            began = time.monotonic()
        with pytest.raises(PartitionLost):
            await waiting
        with pytest.raises(PartitionLost):
            await claim.ack(held.offset)
        assert time.monotonic() - began < backend.patience
        assert member.iterated_to_the_end


@pytest.mark.asyncio
async def test_closing_in_the_middle_of_work_loses_nothing(backend: Backend) -> None:
    async with backend.create() as transport:
        texts = [str(i) for i in range(200)]
        seen: dict[str, str] = {}
        for i in range(4):
            batch = texts[50 * i : 50 * (i + 1)]
            await transport.publish(messages(batch, partition=0, of=transport))
            worker = ConformanceWorker(transport, f"busy-{i}", batch=7)
            async with worker.working():
                await until(lambda w=worker: bool(w.records), patience=backend.patience)  # type: ignore[misc]
            seen |= dict(
                zip(
                    (record.offset for record in worker.records),
                    contents(worker.records),
                    strict=True,
                )
            )
        async with Member(transport, "last") as member:
            claim = await member.claim(0)
            while records := await claim.next(max_records=100, max_wait=0.5):
                seen |= dict(
                    zip((record.offset for record in records), contents(records), strict=True)
                )
        assert [seen[offset] for offset in sorted(seen, key=transport.sort_key)] == texts


@pytest.mark.asyncio
async def test_there_may_be_more_members_than_partitions(backend: Backend) -> None:
    async with backend.create() as transport, AsyncExitStack() as stack:
        workers = [
            ConformanceWorker(transport, f"worker-{i}") for i in range(transport.partitions + 2)
        ]
        for worker in workers:
            await stack.enter_async_context(worker.working())
        await until(lambda: _is_fair(transport, workers), patience=backend.patience)


def _is_fair(transport: Transport, workers: list[ConformanceWorker]) -> bool:
    owned = [worker.owned for worker in workers]
    sizes = [len(partitions) for partitions in owned]
    whole = sorted(p for partitions in owned for p in partitions) == list(
        range(transport.partitions)
    )
    return whole and max(sizes) - min(sizes) <= 1


async def _first_to_lose(member: Member, backend: Backend) -> int:
    """Return the first partition that ``member`` is asked to give up."""
    deadline = time.monotonic() + backend.patience
    while time.monotonic() < deadline:
        for partition, claim in member.claims.items():
            try:
                await claim.next(max_records=1, max_wait=0)
            except PartitionLost:
                return partition
        await asyncio.sleep(0.02)
    raise AssertionError("no partition moved")
