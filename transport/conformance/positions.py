"""Published positions: the log shows them as a group's progress, and nothing else changes."""

from __future__ import annotations

import asyncio

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, messages
from transport.contract import (
    DLQ_GROUP,
    WORKER_GROUP,
    DeadLetter,
    Progress,
    Reason,
    Record,
    Topic,
    Transport,
)

_GROUP = "shown"


async def _append(log: Transport, texts: str, *, partition: int = 0) -> list[Record]:
    """Append one message for each character, and return the partition's records."""
    await log.publish(messages(list(texts), partition=partition, of=log))
    return list(await log.read(Topic.MESSAGES, partition))


async def _shown(log: Transport, partition: int = 0, *, group: str = _GROUP) -> Progress:
    return (await log.progress(Topic.MESSAGES, group=group))[partition]


async def _publish(log: Transport, *through: Record, group: str = _GROUP) -> None:
    """Publish the position of each record, in its partition."""
    positions = {record.partition: record.offset for record in through}
    await log.publish_positions(Topic.MESSAGES, positions, group=group)


@pytest.mark.asyncio
@pytest.mark.parametrize("group", [_GROUP, WORKER_GROUP])
async def test_a_published_position_is_the_progress_of_its_group(
    backend: Backend, group: str
) -> None:
    async with backend.create() as log, backend.create() as other:
        records = await _append(log, "abcde")
        for index, record in enumerate(records):
            await _publish(log, record, group=group)
            progress = await _shown(other, group=group)
            assert (progress.lag, progress.lost) == (len(records) - 1 - index, 0)
            assert progress.end == records[-1].offset
            assert progress.floor is not None
            # The floor may be any offset before the next record: offsets may have gaps.
            floor = log.sort_key(progress.floor)
            assert log.sort_key(record.offset) <= floor
            if progress.lag:
                assert floor < log.sort_key(records[index + 1].offset)
        progress = await _shown(other, group=group)
        assert (progress.lag, progress.oldest_age, progress.lost) == (0, 0.0, 0)
        await _append(log, "fg")
        assert (await _shown(other, group=group)).lag == 2


@pytest.mark.asyncio
async def test_a_group_that_is_missing_is_created_with_its_first_position(
    backend: Backend,
) -> None:
    async with backend.create() as log:
        records = await _append(log, "abcde")
        assert not [standing for standing in await log.groups() if _GROUP in standing.group]
        await _publish(log, records[2])
        (standing,) = [standing for standing in await log.groups() if _GROUP in standing.group]
        assert (standing.topic, standing.ours) == (Topic.MESSAGES, False)
        assert (standing.lag, standing.members) == (2, 0)
    async with backend.create() as log:
        assert (await _shown(log)).lag == 2, "the log keeps it, not the process"


@pytest.mark.asyncio
async def test_an_older_position_moves_the_group_back(backend: Backend) -> None:
    """PostgreSQL may go back to an earlier moment, and the log then shows that."""
    async with backend.create() as log:
        records = await _append(log, "abcde")
        await _publish(log, records[4])
        await _publish(log, records[1])
        progress = await _shown(log)
        assert (progress.lag, progress.lost) == (3, 0), "nothing was lost"
        await _publish(log, records[3])
        assert (await _shown(log)).lag == 1


@pytest.mark.asyncio
async def test_a_position_beyond_the_end_makes_no_lag_below_zero(backend: Backend) -> None:
    """A log that lost its last records may end before a position that PostgreSQL keeps."""
    async with backend.create() as log:
        records = await _append(log, "abc")
        beyond = f"9{records[-1].offset}"
        try:
            assert log.sort_key(beyond) > log.sort_key(records[-1].offset)
        except ValueError:
            pytest.skip("an offset of this log does not begin with a number")
        await log.publish_positions(Topic.MESSAGES, {0: beyond}, group=_GROUP)
        lag = (await _shown(log)).lag
        assert lag is None or lag >= 0
        await _publish(log, records[0])
        assert (await _shown(log)).lag == 2


@pytest.mark.asyncio
async def test_a_position_may_be_published_twice_and_by_several_processes(
    backend: Backend,
) -> None:
    async with backend.create() as log, backend.create() as other:
        records = await _append(log, "abcde")
        await _publish(log, records[2])
        once = await _shown(log)
        await _publish(log, records[2])
        await asyncio.gather(*(_publish(each, records[2]) for each in (log, other) * 5))
        twice = await _shown(log)
        assert (twice.lag, twice.floor, twice.lost) == (once.lag, once.floor, once.lost)
        assert twice.lag == 2


@pytest.mark.asyncio
async def test_partitions_whose_position_is_not_published_stay_where_they_are(
    backend: Backend,
) -> None:
    async with backend.create() as log:
        zero = await _append(log, "abcde", partition=0)
        one = await _append(log, "fgh", partition=1)
        await _publish(log, zero[3], one[0])
        await _publish(log, one[2])
        await log.publish_positions(Topic.MESSAGES, {}, group=_GROUP)
        lags = [progress.lag for progress in await log.progress(Topic.MESSAGES, group=_GROUP)]
        assert lags == [1, 0] + [0] * (log.partitions - 2)


@pytest.mark.asyncio
async def test_other_groups_and_what_is_read_are_untouched(backend: Backend) -> None:
    async with backend.create() as log:
        records = await _append(log, "abcde")
        await _publish(log, records[0], group=WORKER_GROUP)
        await _publish(log, records[4])
        await _publish(log, records[1], group="third")
        progress = await _shown(log, group=WORKER_GROUP)
        assert progress.lag == 4
        assert [(await _shown(log, group=group)).lag for group in (_GROUP, "third")] == [0, 3]
        assert list(await log.read(Topic.MESSAGES, 0)) == records
        rest = await log.read(Topic.MESSAGES, 0, after=records[2].offset)
        assert contents(rest) == list("de")


@pytest.mark.asyncio
async def test_positions_of_dead_letters_are_those_of_their_group(backend: Backend) -> None:
    async with backend.create() as log:
        records = await _append(log, "abc")
        await log.dead_letter(
            [DeadLetter(record, Reason.REJECTED, "no", 1, now()) for record in records]
        )
        dead_letters = await log.read(Topic.DEAD_LETTERS, 0)
        for index, dead_letter in enumerate(dead_letters):
            await log.publish_positions(
                Topic.DEAD_LETTERS, {0: dead_letter.offset}, group=DLQ_GROUP
            )
            (progress,) = await log.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
            assert (progress.lag, progress.lost) == (len(dead_letters) - 1 - index, 0)
        assert (await _shown(log, group=WORKER_GROUP)).lag == 3


@pytest.mark.asyncio
async def test_a_group_of_published_positions_is_forgotten_like_any_other(
    backend: Backend,
) -> None:
    async with backend.create() as log:
        records = await _append(log, "abc")
        await _publish(log, records[1])
        await log.forget_group(_GROUP)
        assert not [standing for standing in await log.groups() if _GROUP in standing.group]
        progress = await _shown(log)
        assert (progress.lag, progress.floor, progress.lost) == (3, None, 0)
        await _publish(log, records[1])
        assert (await _shown(log)).lag == 1
