"""Delivery: in order, repeated until acknowledged, without skipping a record."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest

from transport.conformance.backend import Backend
from transport.conformance.member import Member, contents, drain, message, messages
from transport.contract import WORKER_GROUP, Topic


@pytest.mark.asyncio
async def test_a_new_group_starts_at_the_beginning(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(["a", "b", "c"], partition=0, of=transport))
        async with Member(transport, group="newcomers") as member:
            claim = await member.claim(0)
            records = await drain(claim, 3, patience=backend.patience)
            assert contents(records) == ["a", "b", "c"]


@pytest.mark.asyncio
async def test_records_are_delivered_in_order_at_most_so_many_at_a_time(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        texts = [str(i) for i in range(30)]
        await transport.publish(messages(texts, partition=1, of=transport))
        claim = await member.claim(1)
        seen: list[str] = []
        while len(seen) < 30:
            records = await claim.next(max_records=7, max_wait=backend.patience)
            assert 0 < len(records) <= 7
            seen += contents(records)
            await claim.ack(records[-1].offset)
        assert seen == texts


@pytest.mark.asyncio
async def test_an_append_wakes_whoever_waits(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        claim = await member.claim(0)
        for i in range(3):
            waiting = asyncio.ensure_future(claim.next(max_records=10, max_wait=30.0))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await transport.publish([message(str(i), partition=0, of=transport)])
            assert contents(await waiting) == [str(i)]
            assert time.monotonic() - began < 10.0, "far sooner than its longest wait"


@pytest.mark.asyncio
async def test_next_returns_nothing_after_its_longest_wait(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        claim = await member.claim(0)
        began = time.monotonic()
        assert not await claim.next(max_records=10, max_wait=0.2)
        assert 0.15 < time.monotonic() - began < 5.0


@pytest.mark.asyncio
async def test_what_was_nacked_comes_again_in_order(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abcde"), partition=0, of=transport))
        claim = await member.claim(0)
        for _ in range(3):
            assert contents(await drain(claim, 5, patience=backend.patience)) == list("abcde")
            await claim.nack()


@pytest.mark.asyncio
async def test_an_acknowledgement_covers_the_prefix_and_no_more(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abcde"), partition=0, of=transport))
        claim = await member.claim(0)
        records = await drain(claim, 5, patience=backend.patience)
        await claim.ack(records[2].offset)
        await claim.nack()
        assert contents(await drain(claim, 2, patience=backend.patience)) == ["d", "e"]


@pytest.mark.asyncio
async def test_an_earlier_offset_takes_no_acknowledgement_back(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(list("abcd"), partition=0, of=transport))
        async with Member(transport, "first") as member:
            claim = await member.claim(0)
            records = await drain(claim, 3, patience=backend.patience)
            await claim.ack(records[2].offset)
            await claim.ack(records[0].offset)
            (progress, *_) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            assert progress.lag == 1
        async with Member(transport, "second") as member:
            claim = await member.claim(0)
            assert contents(await drain(claim, 1, patience=backend.patience)) == ["d"]


@pytest.mark.asyncio
async def test_the_next_batch_may_be_asked_for_before_the_last_is_acknowledged(
    backend: Backend,
) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abcdef"), partition=0, of=transport))
        claim = await member.claim(0)
        first = await drain(claim, 2, patience=backend.patience)
        second = await drain(claim, 2, patience=backend.patience)
        await claim.ack(first[-1].offset)
        third = await drain(claim, 2, patience=backend.patience)
        await claim.ack(third[-1].offset)
        assert contents([*first, *second, *third]) == list("abcdef")
        (progress, *_) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (progress.lag, progress.pending) == (0, 0)


@pytest.mark.asyncio
async def test_what_a_member_left_unacknowledged_comes_first_to_the_next(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(list("abcde"), partition=0, of=transport))
        async with Member(transport, "first") as member:
            claim = await member.claim(0)
            records = await drain(claim, 4, patience=backend.patience)
            await claim.ack(records[1].offset)  # then it crashes in the middle of its batch
        await transport.publish(messages(["f"], partition=0, of=transport))
        async with Member(transport, "second") as member:
            claim = await member.claim(0)
            again = await drain(claim, 4, patience=backend.patience)
            assert contents(again) == ["c", "d", "e", "f"]


@pytest.mark.asyncio
async def test_what_is_acknowledged_never_comes_again(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(["old"], partition=0, of=transport))
        async with Member(transport, "first") as member:
            claim = await member.claim(0)
            (record,) = await drain(claim, 1, patience=backend.patience)
            await claim.ack(record.offset)
        async with Member(transport, "second") as member:
            claim = await member.claim(0)
            await transport.publish(messages(["new"], partition=0, of=transport))
            assert contents(await drain(claim, 1, patience=backend.patience)) == ["new"]


@pytest.mark.asyncio
async def test_deliveries_are_counted(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("ab"), partition=0, of=transport))
        claim = await member.claim(0)
        counts = []
        for _ in range(3):
            records = await drain(claim, 2, patience=backend.patience)
            counts.append([record.delivery_count for record in records])
            await claim.nack()
        if backend.features.counts_deliveries:
            assert counts == [[1, 1], [2, 2], [3, 3]]
        else:
            assert counts == [[None, None]] * 3


@pytest.mark.asyncio
async def test_groups_are_independent_of_each_other(backend: Backend) -> None:
    async with backend.create() as transport:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        async with (
            Member(transport, group="one") as reader,
            Member(transport, group="two") as other,
        ):
            first = await reader.claim(0)
            records = await drain(first, 3, patience=backend.patience)
            await first.ack(records[-1].offset)
            second = await other.claim(0)
            assert contents(await drain(second, 3, patience=backend.patience)) == list("abc")
            await second.nack()
            assert contents(await drain(second, 3, patience=backend.patience)) == list("abc")
            assert not await first.next(max_records=10, max_wait=0.1)


@pytest.mark.asyncio
async def test_a_cancelled_next_passes_nothing_over(backend: Backend) -> None:
    chance = random.Random(7)  # noqa: S311 - the same delays in every run
    async with backend.create() as transport, Member(transport) as member:
        claim = await member.claim(0)
        texts = [str(i) for i in range(300)]
        seen: list[str] = []
        for start in range(0, 300, 10):
            batch = messages(texts[start : start + 10], partition=0, of=transport)
            reading = asyncio.ensure_future(claim.next(max_records=4, max_wait=5.0))
            await transport.publish(batch)
            await asyncio.sleep(chance.random() * 0.004)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen += contents(await reading)
        rest = await drain(claim, 300 - len(seen), patience=backend.patience)
        assert seen + contents(rest) == texts


@pytest.mark.asyncio
async def test_bytes_that_are_no_envelope_arrive_untouched_and_block_nothing(
    backend: Backend,
) -> None:
    backend.need("append_raw")
    assert backend.append_raw is not None
    async with backend.create() as transport, Member(transport) as member:
        await backend.append_raw(0, b"\xff\x00 not an envelope")
        await transport.publish(messages(["good"], partition=0, of=transport))
        claim = await member.claim(0)
        bad, good = await drain(claim, 2, patience=backend.patience)
        assert bad.body == b"\xff\x00 not an envelope"
        assert contents([good]) == ["good"]
        await claim.ack(bad.offset)
        await claim.nack()
        assert contents(await drain(claim, 1, patience=backend.patience)) == ["good"]


@pytest.mark.asyncio
async def test_a_record_that_may_linger_is_delivered_alone_in_the_end(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport, linger=0.3) as member:
        claim = await member.claim(0)
        await transport.publish(messages(["a"], partition=0, of=transport))
        assert contents(await drain(claim, 1, patience=backend.patience)) == ["a"]
