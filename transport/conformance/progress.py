"""Progress: the published position and lag of a group; unknown figures are marked as such."""

from __future__ import annotations

import time

import pytest

from transport.conformance.backend import Backend
from transport.conformance.envelopes import message, messages, until
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport


async def _of(transport: Transport, partition: int, group: str = WORKER_GROUP) -> Progress:
    every = await transport.progress(Topic.MESSAGES, group=group)
    assert [entry.partition for entry in every] == list(range(transport.partitions))
    return every[partition]


async def _publish(log: Transport, record: Record) -> None:
    await log.publish_positions(
        Topic.MESSAGES, {record.partition: record.offset}, group=WORKER_GROUP
    )


@pytest.mark.asyncio
async def test_an_empty_log_has_no_lag_and_no_positions(backend: Backend) -> None:
    async with backend.create() as log:
        progress = await _of(log, 0)
        assert (progress.lag, progress.oldest_age) == (0, 0.0)
        assert (progress.floor, progress.end, progress.lost) == (None, None, 0)


@pytest.mark.asyncio
async def test_lag_counts_the_records_after_the_position(backend: Backend) -> None:
    async with backend.create() as log:
        await log.publish(messages(list("abcdefg"), partition=0, of=log))
        assert (await _of(log, 0)).lag == 7
        records = await log.read(Topic.MESSAGES, 0, limit=5)
        assert (await _of(log, 0)).lag == 7, "a read moves nothing"
        await _publish(log, records[1])
        assert (await _of(log, 0)).lag == 5
        assert (await _of(log, 1)).lag == 0


@pytest.mark.asyncio
async def test_the_floor_is_the_position_and_the_end_the_last_appended(backend: Backend) -> None:
    async with backend.create() as log:
        await log.publish(messages(list("abcd"), partition=0, of=log))
        records = await log.read(Topic.MESSAGES, 0)
        last = records[-1].offset
        progress = await _of(log, 0)
        assert (progress.floor, progress.end) == (None, last)
        for record in (records[1], records[-1]):
            await _publish(log, record)
            progress = await _of(log, 0)
            assert (progress.floor, progress.end) == (record.offset, last)
        assert (progress.lag, progress.oldest_age) == (0, 0.0)


@pytest.mark.asyncio
async def test_the_oldest_age_grows_until_the_position_passes_its_record(backend: Backend) -> None:
    async with backend.create() as log:
        began = time.monotonic()
        await log.publish([message("old", partition=0, of=log)])

        async def aged() -> bool:
            return ((await _of(log, 0)).oldest_age or 0.0) > 0.3

        await until(aged, patience=backend.patience)
        (record,) = await log.read(Topic.MESSAGES, 0)
        age = (await _of(log, 0)).oldest_age or 0.0
        assert age > 0.3, "a record that was read is not settled"
        assert age < time.monotonic() - began + 1.0, "in seconds"
        await _publish(log, record)
        assert (await _of(log, 0)).oldest_age == 0.0


@pytest.mark.asyncio
async def test_appended_counts_every_append_whatever_became_of_it(backend: Backend) -> None:
    async with backend.create() as log:
        assert (await _of(log, 0)).appended == 0
        await log.publish(messages(list("abc"), partition=0, of=log))
        records = await log.read(Topic.MESSAGES, 0)
        await _publish(log, records[1])
        assert (await _of(log, 0)).appended == 3
        await log.publish(messages(["d"], partition=0, of=log))
        progress = await _of(log, 0)
        assert (progress.appended, progress.lag) == (4, 2)
        assert (await _of(log, 1)).appended == 0


@pytest.mark.asyncio
async def test_every_record_is_after_the_position_of_an_unknown_group(backend: Backend) -> None:
    async with backend.create() as log:
        await log.publish(messages(list("abc"), partition=0, of=log))
        records = await log.read(Topic.MESSAGES, 0)
        await _publish(log, records[-1])
        assert (await _of(log, 0)).lag == 0
        progress = await _of(log, 0, "unknown")
        assert (progress.lag, progress.floor) == (3, None)


@pytest.mark.asyncio
async def test_a_log_has_no_surplus_partitions_unless_an_operator_adds_some(
    backend: Backend,
) -> None:
    async with backend.create() as log:
        assert list(await log.surplus()) == []
        last = log.partitions - 1
        await log.publish([message("a", partition=last, of=log)])
        assert list(await log.surplus()) == []


@pytest.mark.asyncio
async def test_a_log_without_positions_has_lost_nothing_to_trimming(
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
