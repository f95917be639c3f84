"""Removal of a log, with everything that the server has of it."""

from __future__ import annotations

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, DeadLetter, Reason, Topic, Transport
from transport.errors import TransportError


async def _fill(log: Transport) -> None:
    """Give the log three records, a dead letter, and a position after the first record."""
    await log.publish(messages(list("abc"), partition=0, of=log))
    (first, *_) = await log.read(Topic.MESSAGES, 0)
    await log.dead_letter([DeadLetter(first, Reason.REJECTED, "no", 1, now())])
    await log.publish_positions(Topic.MESSAGES, {0: first.offset}, group=WORKER_GROUP)


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
        assert contents(await log.read(Topic.MESSAGES, 0)) == list("abc")


@pytest.mark.asyncio
async def test_every_group_of_a_log_is_returned_with_its_lag(backend: Backend) -> None:
    async with backend.create() as log:
        await _fill(log)
        (last,) = await log.read_back(Topic.MESSAGES, 0, limit=1)
        await log.publish_positions(Topic.MESSAGES, {0: last.offset}, group="bystanders")
        found = await log.groups()
        (standing,) = [standing for standing in found if "bystanders" in standing.group]
        assert (standing.ours, standing.lag, standing.members) == (False, 0, 0)
        (worker,) = [
            standing
            for standing in await log.groups()
            if standing.ours and standing.topic is Topic.MESSAGES
        ]
        assert (worker.lag, worker.members) == (2, 0)


@pytest.mark.asyncio
async def test_a_log_with_members_is_not_removed(backend: Backend) -> None:
    backend.need("join")
    assert backend.join is not None
    async with backend.create() as log:
        await _fill(log)
        async with backend.join("busy"):
            with pytest.raises(TransportError, match="has members"):
                await log.remove()
        assert contents(await log.read(Topic.MESSAGES, 0)) == list("abc")
