"""Reads that wait for the next record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, message, messages, stored, until
from transport.contract import Appended, DeadLetter, Reason, Record, Topic, Transport
from transport.errors import TransportUnavailable

_LONGER = 100.0
"""A wait is longer than the test's patience by this factor: a read that uses it up fails."""
_SECONDS = 0.2  # a read that should wait, and does not, has ended by then


async def _read(
    backend: Backend,
    log: Transport,
    partition: int = 0,
    *,
    topic: Topic = Topic.MESSAGES,
    after: str | None = None,
    limit: int = 1000,
) -> Sequence[Record]:
    """Read, with a wait that is longer than the test may take."""
    async with asyncio.timeout(backend.patience):
        return await log.read(
            topic, partition, after=after, limit=limit, wait=_LONGER * backend.patience
        )


async def _append(log: Transport, *texts: str, partition: int = 0) -> None:
    outcomes = await log.publish(messages(texts, partition=partition, of=log))
    assert all(isinstance(outcome, Appended) for outcome in outcomes)


async def _wait_together(*reads: asyncio.Task[Sequence[Record]]) -> None:
    """Give reads the time to begin their wait; none of them may end."""
    done, _ = await asyncio.wait(reads, timeout=_SECONDS)
    assert not done, "it has nothing to return, and its wait is not over"


@pytest.mark.asyncio
async def test_a_waiting_read_returns_a_record_of_another_process(backend: Backend) -> None:
    async with backend.create() as reader, backend.create() as writer:
        waiting = asyncio.create_task(_read(backend, reader))
        await _wait_together(waiting)
        await _append(writer, "first")
        (first,) = await waiting
        assert contents([first]) == ["first"]
        waiting = asyncio.create_task(_read(backend, reader, after=first.offset))
        await _wait_together(waiting)
        await _append(writer, "second")
        assert contents(await waiting) == ["second"]


@pytest.mark.asyncio
async def test_a_read_with_a_wait_returns_at_once_what_the_log_has(backend: Backend) -> None:
    async with backend.create() as log:
        await _append(log, *"abc")
        records = stored(await log.read(Topic.MESSAGES, 0))
        assert contents(records) == list("abc")
        assert stored(await _read(backend, log)) == records
        assert stored(await _read(backend, log, limit=2)) == records[:2]
        assert stored(await _read(backend, log, after=records[1].offset)) == records[2:]


@pytest.mark.asyncio
async def test_a_read_returns_nothing_after_its_wait(backend: Backend) -> None:
    async def ends_empty(after: str | None) -> None:
        began = time.monotonic()
        async with asyncio.timeout(backend.patience):
            assert not await log.read(Topic.MESSAGES, 0, after=after, wait=_SECONDS)
        assert time.monotonic() - began > 0.9 * _SECONDS

    async with backend.create() as log:
        await ends_empty(None)
        await _append(log, "only")
        (only,) = await log.read(Topic.MESSAGES, 0)
        await ends_empty(only.offset)


@pytest.mark.asyncio
async def test_a_read_may_wait_after_an_offset_that_the_log_does_not_have_yet(
    backend: Backend,
) -> None:
    async with backend.create() as log:
        await _append(log, "only")
        (only,) = await log.read(Topic.MESSAGES, 0)
        beyond = f"9{only.offset}"
        try:
            assert log.sort_key(beyond) > log.sort_key(only.offset)
        except ValueError:
            pytest.skip("an offset of this log does not begin with a number")
        async with asyncio.timeout(backend.patience):
            assert not await log.read(Topic.MESSAGES, 0, after=beyond, wait=_SECONDS)


@pytest.mark.asyncio
async def test_reads_of_several_partitions_wait_at_the_same_time(backend: Backend) -> None:
    """Neither do they wait for each other, nor do appends wait for them."""
    async with backend.create() as log:
        zero, again, one, dead = reads = [
            asyncio.create_task(read)
            for read in (
                _read(backend, log, 0),
                _read(backend, log, 0),
                _read(backend, log, 1),
                _read(backend, log, 0, topic=Topic.DEAD_LETTERS),
            )
        ]
        await _wait_together(*reads)
        await _append(log, "of one", partition=1)
        records = await one
        assert contents(records) == ["of one"]
        await _wait_together(zero, again, dead)
        await log.dead_letter([DeadLetter(records[0], Reason.REJECTED, "no", 1, now())])
        (dead_letter,) = await dead
        assert dead_letter.body == records[0].body
        await _wait_together(zero, again)
        await _append(log, "of zero", partition=0)
        assert contents(await zero) == contents(await again) == ["of zero"]


@pytest.mark.asyncio
async def test_no_append_is_missed_by_a_read_that_begins_to_wait(backend: Backend) -> None:
    async with backend.create() as log, backend.create() as other:
        after = None
        for number in range(30):
            writer = (log, other)[number % 2]
            found, _ = await asyncio.gather(
                _read(backend, log, after=after), _append(writer, str(number))
            )
            assert contents(found) == [str(number)]
            after = found[-1].offset


@pytest.mark.asyncio
async def test_a_reader_that_follows_a_log_gets_every_record_in_order(backend: Backend) -> None:
    texts = [str(number) for number in range(120)]

    async def write(log: Transport) -> None:
        for first in range(0, len(texts), 6):
            await _append(log, *texts[first : first + 6])

    async with backend.create() as log, backend.create() as other:
        writing = asyncio.create_task(write(other))
        found: list[Record] = []
        while len(found) < len(texts):
            after = found[-1].offset if found else None
            some = await _read(backend, log, after=after, limit=4)
            assert 1 <= len(some) <= 4
            found += some
        await writing
        assert contents(found) == texts
        assert stored(found) == stored(await log.read(Topic.MESSAGES, 0))


@pytest.mark.asyncio
async def test_a_cancelled_wait_ends_at_once_and_loses_nothing(backend: Backend) -> None:
    async with backend.create() as log:
        after: dict[int, str | None] = {0: None, 1: None}
        for number in range(10):
            cancelled = asyncio.create_task(_read(backend, log, 0, after=after[0]))
            others = {p: asyncio.create_task(_read(backend, log, p, after=after[p])) for p in after}
            if number % 2:
                await _wait_together(cancelled, *others.values())
            else:
                await asyncio.sleep(0)  # it may be under way, and not wait yet
            cancelled.cancel()
            await asyncio.wait([cancelled], timeout=backend.patience)
            assert cancelled.cancelled()
            for partition, waiting in others.items():
                text = f"{number} of {partition}"
                await _append(log, text, partition=partition)
                (record,) = await waiting
                assert contents([record]) == [text]
                assert record.partition == partition
                after[partition] = record.offset
        assert len(await log.read(Topic.MESSAGES, 0)) == 10


@pytest.mark.asyncio
async def test_a_reader_that_waits_continues_after_a_restart_of_the_server(
    backend: Backend,
) -> None:
    backend.need("durable", "stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    found: list[Record] = []

    async def follow(log: Transport) -> None:
        while True:
            try:
                found.extend(
                    await log.read(
                        Topic.MESSAGES,
                        0,
                        after=found[-1].offset if found else None,
                        wait=_LONGER * backend.patience,
                    )
                )
            except TransportUnavailable:
                await asyncio.sleep(0.05)

    async with backend.create() as log:
        following = asyncio.create_task(follow(log))
        await _append(log, "before")
        await until(lambda: contents(found) == ["before"], patience=backend.patience)
        await backend.stop()
        await asyncio.sleep(_SECONDS)
        await backend.start()
        late = message("after", partition=0, of=log)

        async def appended() -> bool:
            (outcome,) = await log.publish([late])
            return not isinstance(outcome, Exception)

        await until(appended, patience=backend.patience)
        await until(lambda: contents(found)[-1] == "after", patience=backend.patience)
        following.cancel()
        await asyncio.wait([following], timeout=backend.patience)
        assert following.cancelled()
    # An append whose outcome is unknown is repeated, so "after" may be there twice.
    assert list(dict.fromkeys(contents(found))) == ["before", "after"]
