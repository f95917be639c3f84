"""Faults: the server stops and starts, and the log is removed while it is in use."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, message, messages, stored, until
from transport.conformance.reader import ConformanceReader
from transport.contract import (
    WORKER_GROUP,
    Appended,
    DeadLetter,
    Envelope,
    Reason,
    Record,
    Remembered,
    Topic,
    Transport,
)
from transport.errors import AppendUnknown, TransportError, TransportUnavailable


@pytest.mark.asyncio
async def test_records_and_positions_survive_a_restart(backend: Backend) -> None:
    backend.need("durable", "stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport:
        identity = await transport.identity()
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        records = stored(await transport.read(Topic.MESSAGES, 0))
        positions = {0: records[0].offset}
        await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
    await backend.stop()
    await backend.start()
    async with backend.create() as transport:
        assert await transport.identity() == identity
        assert list(await transport.read(Topic.MESSAGES, 0)) == records
        rest = await transport.read(Topic.MESSAGES, 0, after=records[0].offset)
        assert contents(rest) == ["b", "c"]
        progress = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
        assert (progress.lag, progress.lost) == (2, 0)


@pytest.mark.asyncio
async def test_while_the_server_is_gone_publish_answers_and_the_others_raise(
    backend: Backend,
) -> None:
    backend.need("stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport:
        batch = messages(["a", "b"], partition=0, of=transport)
        await transport.publish([message("warm", partition=0, of=transport)])
        (first,) = await transport.read(Topic.MESSAGES, 0)
        await backend.stop()
        try:
            async with asyncio.timeout(backend.patience):
                outcomes = await transport.publish(batch)
            assert len(outcomes) == 2
            for outcome in outcomes:
                assert isinstance(outcome, (TransportUnavailable, AppendUnknown))
            with pytest.raises(TransportUnavailable):
                await transport.ping()
            with pytest.raises(TransportUnavailable):
                await transport.read(Topic.MESSAGES, 0)
            with pytest.raises(TransportUnavailable):
                await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            with pytest.raises(TransportUnavailable):
                positions = {0: first.offset}
                await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
        finally:
            await backend.start()
        await _publish_at_last(transport, message("back", partition=0, of=transport), backend)


@pytest.mark.asyncio
async def test_while_the_server_is_gone_no_dead_letter_is_taken(backend: Backend) -> None:
    """Its record would be settled, and be nowhere."""
    backend.need("stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport:
        await transport.publish([message("dies", partition=0, of=transport)])
        (record,) = await transport.read(Topic.MESSAGES, 0)
        letter = DeadLetter(record, Reason.REJECTED, "no", 1, now())
        await backend.stop()
        try:
            with pytest.raises(TransportUnavailable):
                async with asyncio.timeout(backend.patience):
                    await transport.dead_letter([letter])
        finally:
            await backend.start()

        async def is_taken() -> bool:
            with contextlib.suppress(TransportUnavailable):  # it may still be starting
                await transport.dead_letter([letter])
                return True
            return False

        await until(is_taken, patience=backend.patience)
        assert await transport.read(Topic.DEAD_LETTERS, 0)


@pytest.mark.asyncio
async def test_appends_while_the_server_stops_are_answered_and_in_order(
    backend: Backend,
) -> None:
    """A message that was sent after another's acknowledgement follows it in the log.

    Readers in the same and in another process get all records in that order meanwhile.
    """
    backend.need("durable", "stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport, backend.create() as other:
        readers = [ConformanceReader(log) for log in (transport, other)]
        acknowledged: dict[str, list[str]] = {caller: [] for caller in "abcd"}
        ended = False

        async def publish(caller: str) -> None:
            mine = acknowledged[caller]
            while not ended:
                texts = [f"{caller}/{len(mine)}", f"{caller}/{len(mine) + 1}"]
                batch = messages(texts, partition=0, of=transport)
                while batch:
                    outcomes = await transport.publish(batch)
                    failed = [isinstance(outcome, TransportError) for outcome in outcomes]
                    assert len(failed) == len(batch)
                    batch = [e for e, again in zip(batch, failed, strict=True) if again]
                    await asyncio.sleep(0.05 if batch else 0)
                mine += texts

        async with readers[0].reading(), readers[1].reading():
            async with asyncio.TaskGroup() as callers:
                for caller in acknowledged:
                    callers.create_task(publish(caller))
                await until(lambda: len(acknowledged["a"]) > 10, patience=backend.patience)
                await backend.stop()
                await asyncio.sleep(0.2)
                await backend.start()
                before = len(acknowledged["a"])
                await until(lambda: len(acknowledged["a"]) > before + 10, patience=backend.patience)
                ended = True
            await _publish_at_last(transport, message("last", partition=0, of=transport), backend)
            await until(
                lambda: all(contents(reader.records[-1:]) == ["last"] for reader in readers),
                patience=backend.patience,
            )
        async with backend.create() as fresh:
            records: list[Record] = []
            while page := await fresh.read(
                Topic.MESSAGES, 0, after=records[-1].offset if records else None
            ):
                records += page
        for reader in readers:
            assert stored(reader.records) == records
        stands = list(dict.fromkeys(contents(records)))  # a repeat is in the log twice: once a row
        for caller, texts in acknowledged.items():
            pairs = [text for text in stands if text.startswith(f"{caller}/")]
            # The two of a call may be appended by different ones of its attempts.
            assert [{*pairs[i : i + 2]} for i in range(0, len(pairs), 2)] == [
                {*texts[i : i + 2]} for i in range(0, len(texts), 2)
            ]


@pytest.mark.asyncio
async def test_a_deleted_partition_is_created_again_and_its_loss_counted(backend: Backend) -> None:
    backend.need("remove")
    assert backend.remove is not None
    async with backend.create() as transport:
        await transport.publish(messages(list("abcde"), partition=0, of=transport))
        records = await transport.read(Topic.MESSAGES, 0)
        positions = {0: records[1].offset}
        await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
        async with ConformanceReader(transport).reading():  # a worker reads, and meets the deletion
            await backend.remove(0)
            await _publish_at_last(transport, message("new", partition=0, of=transport), backend)
        # An append whose outcome is unknown is repeated, so it may be there twice.
        *_, new = records = await _read_at_last(transport, backend)
        assert {*contents(records)} == {"new"}

        async def is_counted() -> bool:
            with contextlib.suppress(TransportUnavailable):
                positions = {0: new.offset}
                await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
            progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return progress[0].lost == 3

        await until(is_counted, patience=backend.patience)


@pytest.mark.asyncio
async def test_a_repeat_of_what_was_deleted_is_appended_again(backend: Backend) -> None:
    """Both before and after the partition has a record again."""
    backend.need("remove", "remembers")
    assert backend.remove is not None
    async with backend.create() as transport:
        settled, unread, late = messages(["settled", "unread", "late"], partition=0, of=transport)
        await transport.publish([settled])
        (record,) = await transport.read(Topic.MESSAGES, 0)
        positions = {0: record.offset}
        await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
        await transport.publish([unread, late])
        await backend.remove(0)
        assert await transport.recall([unread.message_id]) == [None]
        (outcome,) = await transport.publish([unread])
        assert isinstance(outcome, Appended), "the partition is missing"
        assert contents(await transport.read(Topic.MESSAGES, 0)) == ["unread"]
        assert await transport.recall([late.message_id]) == [None]
        outcomes = await transport.publish([late, unread, late])
        assert [type(outcome) for outcome in outcomes] == [Appended, Remembered, Remembered]
        assert contents(await transport.read(Topic.MESSAGES, 0)) == ["unread", "late"]


@pytest.mark.asyncio
async def test_a_group_that_another_program_deleted_is_created_with_its_next_position(
    backend: Backend,
) -> None:
    backend.need("remove_group")
    assert backend.remove_group is not None
    async with backend.create() as transport:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        records = await transport.read(Topic.MESSAGES, 0)
        positions = {0: records[1].offset}
        await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
        await backend.remove_group(0, WORKER_GROUP)
        rest = await transport.read(Topic.MESSAGES, 0, after=records[1].offset)
        assert contents(rest) == ["c"], "a position decides nothing"

        async def is_published() -> bool:
            with contextlib.suppress(TransportUnavailable):
                await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
                return True
            return False

        await until(is_published, patience=backend.patience)
        progress = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
        assert (progress.lag, progress.lost) == (1, 0), "its records are all there"


async def _publish_at_last(transport: Transport, envelope: Envelope, backend: Backend) -> None:
    async def appended() -> bool:
        (outcome,) = await transport.publish([envelope])
        return not isinstance(outcome, TransportError)

    await until(appended, patience=backend.patience)


async def _read_at_last(transport: Transport, backend: Backend) -> list[Record]:
    found: list[Record] = []

    async def is_read() -> bool:
        with contextlib.suppress(TransportUnavailable):  # the log may still be creating it
            found[:] = await transport.read(Topic.MESSAGES, 0)
        return bool(found)

    await until(is_read, patience=backend.patience)
    return found
