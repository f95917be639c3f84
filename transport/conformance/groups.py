"""Deletion of a group, with everything that the log has of it, and nothing of other groups."""

from __future__ import annotations

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.member import Member, contents, drain, messages
from transport.contract import DLQ_GROUP, WORKER_GROUP, DeadLetter, Reason, Topic
from transport.errors import TransportError


@pytest.mark.asyncio
@pytest.mark.parametrize("group", [WORKER_GROUP, "others"])
async def test_a_group_that_was_forgotten_begins_anew(backend: Backend, group: str) -> None:
    async with backend.create() as log:
        await log.publish(messages(list("abc"), partition=0, of=log))
        epochs = []
        for name in (group, "bystanders"):
            async with Member(log, group=name) as member:
                claim = await member.claim(0)
                records = await drain(claim, 3, patience=backend.patience)
                await claim.ack(records[1].offset)
                epochs.append(claim.epoch)
        await log.progress(Topic.MESSAGES, group=group)
        await log.forget_group(group)
        await log.forget_group(group)
        async with Member(log, group=group) as member:
            claim = await member.claim(0)
            assert contents(await drain(claim, 3, patience=backend.patience)) == list("abc")
            assert claim.epoch > epochs[0]
        (progress, *_) = await log.progress(Topic.MESSAGES, group=group)
        assert (progress.lag, progress.lost) == (3, 0), "nothing was lost"
        (progress, *_) = await log.progress(Topic.MESSAGES, group="bystanders")
        assert progress.lag == 1


@pytest.mark.asyncio
async def test_a_group_with_members_is_not_forgotten(backend: Backend) -> None:
    async with backend.create() as log:
        await log.publish(messages(list("abc"), partition=0, of=log))
        async with Member(log, group="busy") as member:
            claim = await member.claim(0)
            records = await drain(claim, 2, patience=backend.patience)
            await claim.ack(records[0].offset)
            with pytest.raises(TransportError, match="has members"):
                await log.forget_group("busy")
            await claim.ack(records[1].offset)
        (progress, *_) = await log.progress(Topic.MESSAGES, group="busy")
        assert progress.lag == 1


@pytest.mark.asyncio
async def test_a_group_is_forgotten_in_both_topics(backend: Backend) -> None:
    async with backend.create() as log:
        await log.publish(messages(["a"], partition=0, of=log))
        (record,) = await log.read(Topic.MESSAGES, 0)
        await log.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
        async with Member(log, group=DLQ_GROUP, topic=Topic.DEAD_LETTERS) as member:
            claim = await member.claim(0)
            (letter,) = await drain(claim, 1, patience=backend.patience)
            await claim.ack(letter.offset)
        await log.forget_group(DLQ_GROUP)
        (progress,) = await log.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        assert (progress.lag, progress.floor) == (1, None)
