"""Faults: the server stops and starts, and the log is removed while it is in use."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from transport.clock import now
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
from transport.errors import AppendUnknown, TopicMissing, TransportError, TransportUnavailable


@pytest.mark.asyncio
async def test_what_was_published_and_acknowledged_survives_a_restart(backend: Backend) -> None:
    backend.need("durable", "stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport:
        identity = await transport.identity()
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        async with Member(transport, "before") as member:
            claim = await member.claim(0)
            records = await drain(claim, 2, patience=backend.patience)
            await claim.ack(records[0].offset)
    await backend.stop()
    await backend.start()
    async with backend.create() as transport, Member(transport, "after") as member:
        assert await transport.identity() == identity
        claim = await member.claim(0)
        assert contents(await drain(claim, 2, patience=backend.patience)) == ["b", "c"]


@pytest.mark.asyncio
async def test_workers_go_on_by_themselves_after_a_restart(backend: Backend) -> None:
    backend.need("durable", "stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport:
        worker = ConformanceWorker(transport, "worker")
        async with worker.working():
            await transport.publish([message("before", partition=0, of=transport)])
            await until(lambda: len(worker.records) == 1, patience=backend.patience)
            await backend.stop()
            await asyncio.sleep(0.2)
            await backend.start()
            await _publish_at_last(transport, message("after", partition=0, of=transport), backend)

            def came() -> bool:
                return contents(worker.records)[-1] == "after"

            await until(came, patience=backend.patience)


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
        finally:
            await backend.start()
        await _publish_at_last(transport, message("back", partition=0, of=transport), backend)


@pytest.mark.asyncio
async def test_while_the_server_is_gone_no_dead_letter_is_taken(backend: Backend) -> None:
    """Its record would be acknowledged, and be nowhere."""
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
    """A message that was sent after another's acknowledgement stands after it."""
    backend.need("durable", "stop", "start")
    assert backend.stop is not None
    assert backend.start is not None
    async with backend.create() as transport:
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
        records: list[Record] = []
        while page := await transport.read(
            Topic.MESSAGES, 0, after=records[-1].offset if records else None
        ):
            records += page
        stands = list(dict.fromkeys(contents(records)))  # a repeat is in the log twice: once a row
        for caller, texts in acknowledged.items():
            pairs = [text for text in stands if text.startswith(f"{caller}/")]
            # The two of a call may be appended by different ones of its attempts.
            assert [{*pairs[i : i + 2]} for i in range(0, len(pairs), 2)] == [
                {*texts[i : i + 2]} for i in range(0, len(texts), 2)
            ]


@pytest.mark.asyncio
async def test_a_log_that_was_deleted_is_begun_anew_and_its_loss_told(backend: Backend) -> None:
    backend.need("remove")
    assert backend.remove is not None
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abcde"), partition=0, of=transport))
        claim = await member.claim(0)
        records = await drain(claim, 2, patience=backend.patience)
        await claim.ack(records[-1].offset)
        await backend.remove(0)
        await _publish_at_last(transport, message("new", partition=0, of=transport), backend)
        assert contents(await _drain_at_last(member, 0, 1, backend)) == ["new"]
        progress = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
        assert progress.lost == 3


@pytest.mark.asyncio
async def test_a_repeat_of_what_was_deleted_is_appended_again(backend: Backend) -> None:
    """Both before and after a consumer reads again: the unread records are gone."""
    backend.need("remove", "remembers")
    assert backend.remove is not None
    async with backend.create() as transport:
        read, unread, late = messages(["read", "unread", "late"], partition=0, of=transport)
        async with Member(transport, "before") as member:
            await transport.publish([read])
            claim = await member.claim(0)
            (record,) = await drain(claim, 1, patience=backend.patience)
            await claim.ack(record.offset)
            await transport.publish([unread, late])
        await backend.remove(0)
        assert await transport.recall([unread.message_id]) == [None]
        (outcome,) = await transport.publish([unread])
        assert isinstance(outcome, Appended), "with no stream"
        async with Member(transport, "after") as member:
            claim = await member.claim(0)
            (record,) = await drain(claim, 1, patience=backend.patience)
            await claim.ack(record.offset)
            assert contents([record]) == ["unread"]
            assert await transport.recall([late.message_id]) == [None]
            outcomes = await transport.publish([late, unread, late])
            assert [type(outcome) for outcome in outcomes] == [Appended, Remembered, Remembered]
            assert contents(await drain(claim, 1, patience=backend.patience)) == ["late"]


@pytest.mark.asyncio
async def test_a_group_that_was_deleted_starts_again_at_the_beginning(backend: Backend) -> None:
    backend.need("remove_group")
    assert backend.remove_group is not None
    async with backend.create() as transport, Member(transport) as member:
        await transport.publish(messages(list("abc"), partition=0, of=transport))
        claim = await member.claim(0)
        await drain(claim, 2, patience=backend.patience)
        await backend.remove_group(0, WORKER_GROUP)
        with pytest.raises(TopicMissing):
            while True:
                await claim.next(max_records=1, max_wait=0)
        await claim.nack()
        assert contents(await _drain_at_last(member, 0, 3, backend)) == ["a", "b", "c"]
        progress = (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
        assert progress.lost == 0, "its records are all there"


async def _publish_at_last(transport: Transport, envelope: Envelope, backend: Backend) -> None:
    async def appended() -> bool:
        (outcome,) = await transport.publish([envelope])
        return not isinstance(outcome, TransportError)

    await until(appended, patience=backend.patience)


async def _drain_at_last(
    member: Member, partition: int, count: int, backend: Backend
) -> list[Record]:
    records: list[Record] = []

    async def arrived() -> bool:
        try:
            claim = member.claims[partition]
            records.extend(await claim.next(max_records=count - len(records), max_wait=0.2))
        except TransportError:
            return False
        return len(records) >= count

    await until(arrived, patience=backend.patience)
    return records
