"""Removal of a log, with everything that the server has of it."""

from __future__ import annotations

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.member import Member, contents, drain, messages
from transport.contract import WORKER_GROUP, DeadLetter, Reason, Topic, Transport
from transport.errors import TransportError


async def _fill(log: Transport) -> None:
    """Give the log three records, a dead letter, and a group that has acknowledged one record."""
    await log.publish(messages(list("abc"), partition=0, of=log))
    (first, *_) = await log.read(Topic.MESSAGES, 0)
    await log.dead_letter([DeadLetter(first, Reason.REJECTED, "no", 1, now())])
    async with Member(log) as member:
        claim = await member.claim(0)
        records = await drain(claim, 3, patience=30.0)
        await claim.ack(records[0].offset)


@pytest.mark.asyncio
async def test_a_removed_log_is_a_new_one_when_it_is_opened_again(backend: Backend) -> None:
    async with backend.create() as log:
        await _fill(log)
        before = await log.identity()
        would = await log.remove(dry_run=True)
        assert contents(await log.read(Topic.MESSAGES, 0)) == list("abc"), "a dry run"
        removed = await log.remove()
    assert removed == would
    assert sum(holding.records or 0 for holding in removed) == 4
    async with backend.create() as log:
        assert await log.identity() != before
        for topic in Topic:
            assert not await log.read(topic, 0)
        (progress, *_) = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (progress.lag, progress.lost) == (0, 0), "nothing was lost"
        await log.publish(messages(list("abc"), partition=0, of=log))
        async with Member(log) as member:
            claim = await member.claim(0)
            assert contents(await drain(claim, 3, patience=backend.patience)) == list("abc")


@pytest.mark.asyncio
async def test_every_group_of_a_log_is_told_with_its_lag(backend: Backend) -> None:
    async with backend.create() as log:
        await _fill(log)
        async with Member(log, group="bystanders") as member:
            claim = await member.claim(0)
            await claim.ack((await drain(claim, 3, patience=backend.patience))[2].offset)
            found = await log.groups()
            (standing,) = [standing for standing in found if "bystanders" in standing.group]
            assert (standing.ours, standing.lag, standing.members) == (False, 0, 1)
        (worker,) = [
            standing
            for standing in await log.groups()
            if standing.ours and standing.topic is Topic.MESSAGES
        ]
        assert (worker.lag, worker.members) == (2, 0)


@pytest.mark.asyncio
async def test_a_log_with_members_is_not_removed(backend: Backend) -> None:
    async with backend.create() as log:
        await _fill(log)
        async with Member(log) as member:
            await member.claim(0)
            with pytest.raises(TransportError, match="has members"):
                await log.remove()
        assert contents(await log.read(Topic.MESSAGES, 0)) == list("abc")
