"""Delivery: reads after positions return every record, in order, also from the process's memory."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, messages, stored, until
from transport.conformance.reader import ConformanceReader
from transport.contract import Envelope, Record, Topic, Transport
from transport.message.envelope import decode


async def _append(log: Transport, *texts: str) -> None:
    await log.publish(messages(texts, partition=0, of=log))


@pytest.mark.asyncio
async def test_what_was_read_is_read_again_from_any_position(backend: Backend) -> None:
    """Reads take nothing from the log: a worker that failed reads its batch again."""
    async with backend.create() as log, backend.create() as other:
        await _append(log, *"abcde")
        records = stored(await other.read(Topic.MESSAGES, 0))
        assert contents(records) == list("abcde")
        for _ in range(3):
            for each in (log, other):
                assert stored(await each.read(Topic.MESSAGES, 0, wait=1.0)) == records
                rest = await each.read(Topic.MESSAGES, 0, after=records[1].offset)
                assert stored(rest) == records[2:]


@pytest.mark.asyncio
async def test_the_next_owner_continues_after_the_position_of_the_last(backend: Backend) -> None:
    async with backend.create() as first:
        await _append(first, *"abcde")
        records = await first.read(Topic.MESSAGES, 0, limit=4)
        position = records[1].offset  # it stops in the middle of its batch
    async with backend.create() as second:
        await _append(second, "f")
        again = await second.read(Topic.MESSAGES, 0, after=position)
        assert contents(again) == list("cdef")


@pytest.mark.asyncio
async def test_appends_of_several_processes_are_read_in_the_order_of_the_log(
    backend: Backend,
) -> None:
    """A process may return its own appends from memory, and misses none of others between them."""
    draw = random.Random(16)  # noqa: S311 - the same appends in every run
    async with backend.create() as ours, backend.create() as theirs:
        readers = [
            ConformanceReader(log, limit=limit) for log in (ours, theirs) for limit in (1, 7, 1000)
        ]

        async def append(log: Transport, name: str) -> None:
            for i in range(40):
                await _append(log, *(f"{name}{i}.{n}" for n in range(draw.randint(1, 3))))
                await asyncio.sleep(draw.choice((0, 0, 0.001, 0.02)))

        async with contextlib.AsyncExitStack() as stack:
            for reader in readers:
                await stack.enter_async_context(reader.reading())
            await asyncio.gather(append(ours, "a"), append(theirs, "b"), append(ours, "c"))
            await _append(ours, "last")
            await until(
                lambda: all(contents(reader.records[-1:]) == ["last"] for reader in readers),
                patience=backend.patience,
            )
        async with backend.create() as fresh:
            records = list(await fresh.read(Topic.MESSAGES, 0, limit=10_000))
        for name in "abc":
            of_one = [text for text in contents(records) if text.startswith(name)]
            assert of_one == sorted(of_one, key=lambda text: [*map(int, text[1:].split("."))])
        for reader in readers:
            assert stored(reader.records) == records


@pytest.mark.asyncio
async def test_a_record_from_memory_has_the_event_and_fingerprint_of_its_envelope(
    backend: Backend,
) -> None:
    async with backend.create() as log:
        reader = ConformanceReader(log)
        sent = messages([str(n) for n in range(30)], partition=0, of=log)
        appended: list[Envelope] = []
        async with reader.reading():
            for envelope in sent:
                await log.publish([envelope])
                appended.append(envelope)
                await until(lambda: len(reader.records) == len(appended), patience=backend.patience)
        records = stored(reader.records)
        for found, record, envelope in zip(reader.records, records, sent, strict=True):
            assert found.event in (None, decode(record))
            assert found.fingerprint in ("", envelope.fingerprint)


@pytest.mark.asyncio
async def test_reads_that_are_cancelled_at_any_moment_miss_nothing(backend: Backend) -> None:
    chance = random.Random(7)  # noqa: S311 - the same delays in every run
    async with backend.create() as log:
        texts = [str(i) for i in range(300)]
        found: list[Record] = []

        async def read(limit: int) -> None:
            after = found[-1].offset if found else None
            found.extend(
                await log.read(Topic.MESSAGES, 0, after=after, limit=limit, wait=backend.patience)
            )

        for start in range(0, 300, 10):
            reading = asyncio.ensure_future(read(limit=4))
            await _append(log, *texts[start : start + 10])
            await asyncio.sleep(chance.random() * 0.004)
            reading.cancel()
            await asyncio.wait([reading])
        while len(found) < len(texts):
            await read(limit=1000)
        assert contents(found) == texts


@pytest.mark.asyncio
async def test_bytes_that_are_no_envelope_are_read_untouched_and_block_nothing(
    backend: Backend,
) -> None:
    backend.need("append_raw")
    assert backend.append_raw is not None
    garbage = b"\xff\x00 not an envelope"
    async with backend.create() as log:
        reader = ConformanceReader(log)
        async with reader.reading():
            await _append(log, "before")
            await backend.append_raw(0, garbage)
            await _append(log, "after")
            await until(lambda: len(reader.records) == 3, patience=backend.patience)
        before, bad, after = stored(reader.records)
        assert contents([before, after]) == ["before", "after"]
        assert bad.body == garbage
        assert list(await log.read(Topic.MESSAGES, 0, after=before.offset, limit=1)) == [bad]
