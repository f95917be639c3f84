"""Deletion of a group, with everything that the log has of it, and nothing of other groups."""

from __future__ import annotations

import pytest

from transport.conformance.backend import Backend
from transport.conformance.member import Member, contents, drain, messages
from transport.contract import WORKER_GROUP, Topic
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
