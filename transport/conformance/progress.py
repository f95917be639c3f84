"""Progress: the position and lag of a group, with unknown figures marked as such."""

from __future__ import annotations

import time

import pytest

from transport.conformance.backend import Backend
from transport.conformance.member import Member, drain, message, messages, until
from transport.contract import WORKER_GROUP, Progress, Topic, Transport


async def _of(transport: Transport, partition: int, group: str = WORKER_GROUP) -> Progress:
    every = await transport.progress(Topic.MESSAGES, group=group)
    assert [entry.partition for entry in every] == list(range(transport.partitions))
    return every[partition]


@pytest.mark.asyncio
async def test_an_empty_log_has_no_lag_and_no_positions(backend: Backend) -> None:
    async with backend.create() as transport:
        progress = await _of(transport, 0)
        assert (progress.lag, progress.pending, progress.oldest_age) == (0, 0, 0.0)
        assert (progress.floor, progress.end, progress.lost) == (None, None, 0)


@pytest.mark.asyncio
async def test_lag_counts_what_is_not_acknowledged_and_pending_what_of_it_was_delivered(
    backend: Backend,
) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abcdefg"), partition=0, of=transport))
        assert (await _of(transport, 0)).lag == 7
        claim = await member.claim(0)
        records = await drain(claim, 5, patience=backend.patience)
        progress = await _of(transport, 0)
        assert progress.lag == 7
        assert progress.pending in (5, None)
        await claim.ack(records[1].offset)
        progress = await _of(transport, 0)
        assert progress.lag == 5
        assert progress.pending in (3, None)
        assert (await _of(transport, 1)).lag == 0


@pytest.mark.asyncio
async def test_the_floor_is_the_last_acknowledged_and_the_end_the_last_appended(
    backend: Backend,
) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abcd"), partition=0, of=transport))
        stands = [record.offset for record in await transport.read(Topic.MESSAGES, 0)]
        progress = await _of(transport, 0)
        assert (progress.floor, progress.end) == (None, stands[-1])
        claim = await member.claim(0)
        await drain(claim, 3, patience=backend.patience)
        progress = await _of(transport, 0)
        assert (progress.floor, progress.acknowledged) == (None, None)
        await claim.ack(stands[1])
        progress = await _of(transport, 0)
        assert (progress.floor, progress.end) == (stands[1], stands[-1])
        assert progress.acknowledged in (stands[1], None)
        await drain(claim, 1, patience=backend.patience)
        await claim.ack(stands[-1])
        progress = await _of(transport, 0)
        assert (progress.floor, progress.end) == (stands[-1], stands[-1])
        assert (progress.lag, progress.oldest_age) == (0, 0.0)


@pytest.mark.asyncio
async def test_the_oldest_age_grows_until_its_record_is_acknowledged(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        began = time.monotonic()
        await transport.publish([message("old", partition=0, of=transport)])

        async def aged() -> bool:
            return ((await _of(transport, 0)).oldest_age or 0.0) > 0.3

        await until(aged, patience=backend.patience)
        claim = await member.claim(0)
        (record,) = await drain(claim, 1, patience=backend.patience)
        age = (await _of(transport, 0)).oldest_age or 0.0
        assert age > 0.3, "delivered is not acknowledged"
        assert age < time.monotonic() - began + 1.0, "in seconds"
        await claim.ack(record.offset)
        assert (await _of(transport, 0)).oldest_age == 0.0


@pytest.mark.asyncio
async def test_appended_counts_every_append_whatever_became_of_it(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        assert (await _of(transport, 0)).appended == 0
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        claim = await member.claim(0)
        records = await drain(claim, 3, patience=backend.patience)
        await claim.ack(records[1].offset)
        assert (await _of(transport, 0)).appended == 3
        await transport.publish(messages(["d"], partition=0, of=transport))
        progress = await _of(transport, 0)
        assert (progress.appended, progress.lag) == (4, 2)
        assert (await _of(transport, 1)).appended == 0


@pytest.mark.asyncio
async def test_a_group_that_never_read_has_everything_before_it(backend: Backend) -> None:
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        claim = await member.claim(0)
        records = await drain(claim, 3, patience=backend.patience)
        await claim.ack(records[-1].offset)
        assert (await _of(transport, 0)).lag == 0
        progress = await _of(transport, 0, "never-read")
        assert (progress.lag, progress.floor) == (3, None)


@pytest.mark.asyncio
async def test_a_log_that_was_never_acknowledged_has_lost_nothing_to_trimming(
    backend: Backend,
) -> None:
    async with backend.create() as transport:
        assert (await _of(transport, 0)).untrimmed
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        assert (await _of(transport, 0)).untrimmed


@pytest.mark.asyncio
async def test_a_log_says_what_an_append_survives(backend: Backend) -> None:
    async with backend.create() as transport:
        durability = await transport.durability()
        assert durability.figures
        if not backend.features.durable:
            survives = (durability.crash, durability.power, durability.disk)
            assert survives == (False, False, False)
