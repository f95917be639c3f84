"""The identity of a log: its name, and the id that no other log has."""

from __future__ import annotations

import pytest

from transport.clock import now
from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, DeadLetter, LogLocation, Reason, Topic
from transport.log_name import LogName


@pytest.mark.asyncio
async def test_a_log_has_a_name_and_as_many_partitions_as_it_says(backend: Backend) -> None:
    log = backend.create()
    name = LogName.parse(log.name)
    assert str(name) == log.name
    assert name.partitions in (None, log.partitions)
    assert log.system
    assert log.features == backend.features, "the service goes by those of the transport"
    assert isinstance(log.location, LogLocation), "known before it is connected"


@pytest.mark.asyncio
async def test_all_who_use_a_log_are_told_the_same_identity(backend: Backend) -> None:
    async with backend.create() as log, backend.create() as other:
        identity = await log.identity()
        assert identity
        await log.publish(messages(["a"], partition=0, of=log))
        assert identity == await log.identity() == await other.identity()


@pytest.mark.asyncio
async def test_two_logs_of_one_server_share_nothing(backend: Backend) -> None:
    """Records, dead letters, groups and identity are each log's own, and so is its removal."""
    backend.need("create_other")
    assert backend.create_other is not None
    async with backend.create() as log, backend.create_other() as other:
        assert (log.name, log.partitions) != (other.name, other.partitions)
        assert await log.identity() != await other.identity()
        await log.publish(messages(list("abc"), partition=0, of=log))
        await other.publish(messages(list("xyz"), partition=0, of=other))
        (record, *_) = await other.read(Topic.MESSAGES, 0)
        await other.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
        assert not await log.read(Topic.DEAD_LETTERS, 0)
        assert contents(await other.read(Topic.MESSAGES, 0)) == list("xyz")
        for each, lag in ((log, 1), (other, 2)):
            through = (await each.read(Topic.MESSAGES, 0))[2 - lag].offset
            await each.publish_positions(Topic.MESSAGES, {0: through}, group=WORKER_GROUP)
        for each, lag in ((log, 1), (other, 2)):
            progress = await each.progress(Topic.MESSAGES, group=WORKER_GROUP)
            assert [p.partition for p in progress] == list(range(each.partitions))
            assert progress[0].lag == lag
            (ours,) = [
                standing
                for standing in await each.groups()
                if standing.ours and standing.topic is Topic.MESSAGES
            ]
            assert ours.lag == lag
        await other.remove()
        assert contents(await log.read(Topic.MESSAGES, 0)) == list("abc")
        (left, *_) = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (left.lag, left.lost) == (1, 0)
