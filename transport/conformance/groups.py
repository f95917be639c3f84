"""Deletion of a group, with everything that the log has of it, and nothing of other groups."""

from __future__ import annotations

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, messages
from transport.contract import DLQ_GROUP, WORKER_GROUP, DeadLetter, Reason, Topic
from transport.errors import TransportError


@pytest.mark.asyncio
@pytest.mark.parametrize("group", [WORKER_GROUP, "others"])
async def test_a_forgotten_group_has_no_position(backend: Backend, group: str) -> None:
    async with backend.create() as log:
        await log.publish(messages(list("abc"), partition=0, of=log))
        records = await log.read(Topic.MESSAGES, 0)
        for name in (group, "bystanders"):
            await log.publish_positions(Topic.MESSAGES, {0: records[1].offset}, group=name)
        await log.progress(Topic.MESSAGES, group=group)
        await log.forget_group(group)
        await log.forget_group(group)
        (progress, *_) = await log.progress(Topic.MESSAGES, group=group)
        assert (progress.lag, progress.floor, progress.lost) == (3, None, 0), "nothing was lost"
        (progress, *_) = await log.progress(Topic.MESSAGES, group="bystanders")
        assert progress.lag == 1
        assert contents(await log.read(Topic.MESSAGES, 0)) == list("abc")
        await log.publish_positions(Topic.MESSAGES, {0: records[1].offset}, group=group)
        (progress, *_) = await log.progress(Topic.MESSAGES, group=group)
        assert (progress.lag, progress.lost) == (1, 0)


@pytest.mark.asyncio
async def test_a_group_with_members_is_not_forgotten(backend: Backend) -> None:
    backend.need("join")
    assert backend.join is not None
    async with backend.create() as log:
        await log.publish(messages(list("abc"), partition=0, of=log))
        async with backend.join("busy"):
            with pytest.raises(TransportError, match="has members"):
                await log.forget_group("busy")
            (standing,) = [each for each in await log.groups() if "busy" in each.group]
            assert (standing.ours, standing.members) == (False, 1)
        await log.forget_group("busy")
        assert not [each for each in await log.groups() if "busy" in each.group]


@pytest.mark.asyncio
async def test_a_group_is_forgotten_in_both_topics(backend: Backend) -> None:
    async with backend.create() as log:
        await log.publish(messages(["a"], partition=0, of=log))
        (record,) = await log.read(Topic.MESSAGES, 0)
        await log.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
        (dead_letter,) = await log.read(Topic.DEAD_LETTERS, 0)
        for topic, offset in (
            (Topic.MESSAGES, record.offset),
            (Topic.DEAD_LETTERS, dead_letter.offset),
        ):
            await log.publish_positions(topic, {0: offset}, group=DLQ_GROUP)
            (progress, *_) = await log.progress(topic, group=DLQ_GROUP)
            assert progress.lag == 0
        await log.forget_group(DLQ_GROUP)
        for topic in Topic:
            (progress, *_) = await log.progress(topic, group=DLQ_GROUP)
            assert (progress.lag, progress.floor) == (1, None)
