"""A stream is deleted: its records count once as lost, and the new one begins afresh."""

from __future__ import annotations

import contextlib

import pytest
from redis.asyncio import Redis

from transport.conformance.member import ConformanceWorker, Member, messages, until
from transport.contract import WORKER_GROUP, Appended, Progress, Topic
from transport.errors import TopicMissing, TransportError
from transport.redis import RedisTransport
from transport.redis.delivery.consumer import RedisConsumer

PATIENCE = 10.0
STREAM = "msg:stream:0"
LAST_ID = "18446744073709551615-18446744073709551615"


async def _progress(log: RedisTransport) -> Progress:
    return (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]


async def _renewed(client: Redis) -> None:
    """Wait until the worker's lease on the partition was renewed."""
    lease = f"{{{STREAM}}}:lease:{WORKER_GROUP}"
    before = await client.hget(lease, "until")  # type: ignore[misc]

    async def later() -> bool:
        return bool(await client.hget(lease, "until") != before)  # type: ignore[misc]

    await until(later, patience=PATIENCE)


async def _looks(member: Member, count: int) -> None:
    """Wait until the member's leases were renewed some more times."""
    consumer = member.consumer
    assert isinstance(consumer, RedisConsumer)
    before = consumer.looks

    async def looked() -> bool:
        return consumer.looks >= before + count

    await until(looked, patience=PATIENCE)


async def test_what_it_held_unread_is_counted_once(near: RedisTransport, client: Redis) -> None:
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(list("abcde"), partition=0, of=near))

        async def looked() -> bool:
            return member.consumer.unread.get(0) == 5  # type: ignore[attr-defined]

        await until(looked, patience=PATIENCE)
        assert (await _progress(near)).lag == 5
        await client.delete(STREAM)
        with pytest.raises(TopicMissing):
            await claim.next(max_records=10, max_wait=0)
        assert (await _progress(near)).lost == 5
        await _looks(member, 3)
        assert (await _progress(near)).lost == 5
        assert member.claims[0] is claim, "it goes on with the new stream"


async def test_a_full_one_that_was_deleted_as_we_advise_takes_records_again(
    near: RedisTransport, client: Redis
) -> None:
    worker = ConformanceWorker(near, "worker")
    async with worker.working():
        await client.xadd(STREAM, {"body": "a stranger's"}, id=LAST_ID)
        await until(lambda: len(worker.records) == 1, patience=PATIENCE)

        async def settled() -> bool:
            progress = await _progress(near)
            return (progress.lag, progress.end) == (0, LAST_ID)

        await until(settled, patience=PATIENCE)
        for _ in range(2):  # the second renewal began after the first: the worker knows of it, too
            await _renewed(client)
        (refused,) = await near.publish(messages(["x"], partition=0, of=near))
        assert isinstance(refused, TransportError)
        await client.delete(STREAM)
        for _ in range(4):
            await _renewed(client)
            with contextlib.suppress(TransportError):
                assert (await _progress(near)).lost == 0
            (outcome,) = await near.publish(messages(["x"], partition=0, of=near))
            assert isinstance(outcome, Appended), outcome
        await until(lambda: len(worker.records) == 5, patience=PATIENCE)
