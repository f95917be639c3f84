"""A stream is deleted: its records count once as lost, and the new one begins afresh."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.transport.settler import settle
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Appended, Progress, Topic
from transport.errors import TransportError
from transport.redis import RedisTransport

STREAM = "msg:stream:0"
LAST_ID = "18446744073709551615-18446744073709551615"


async def _progress(log: RedisTransport) -> Progress:
    return (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]


async def test_what_it_held_unread_is_counted_once(near: RedisTransport, client: Redis) -> None:
    await near.publish(messages(list("abcde"), partition=0, of=near))
    assert (await _progress(near)).lag == 5
    await client.delete(STREAM)
    for _ in range(3):
        assert (await _progress(near)).lost == 5
    await near.publish(messages(["new"], partition=0, of=near))
    for _ in range(3):
        await settle(near, 1)
        progress = await _progress(near)
        assert (progress.lost, progress.lag) == (5, 0)


@pytest.mark.parametrize("group", [WORKER_GROUP, "others"])
async def test_a_log_that_was_removed_is_not_created_by_a_position(
    near: RedisTransport, client: Redis, *, group: str
) -> None:
    await near.publish(messages(list("abc"), partition=0, of=near))
    last = (await settle(near, 2, group=group))[-1]
    await near.remove()
    for _ in range(2):
        await near.publish_positions(Topic.MESSAGES, {0: last.offset}, group=group)
        await near.progress(Topic.MESSAGES, group=group)
    # The probe shows that the server takes writes, and expires.
    assert set(await client.keys()) <= {b"{msg:stream}:probe"}


async def test_a_full_one_that_was_deleted_as_we_advise_takes_records_again(
    near: RedisTransport, client: Redis
) -> None:
    await client.xadd(STREAM, {"body": "another program's"}, id=LAST_ID)
    for _ in range(2):
        await settle(near, 1)
    progress = await _progress(near)
    assert (progress.lag, progress.end) == (0, LAST_ID)
    (refused,) = await near.publish(messages(["x"], partition=0, of=near))
    assert isinstance(refused, TransportError)
    await client.delete(STREAM)
    for _ in range(4):
        await near.publish_positions(Topic.MESSAGES, {0: LAST_ID}, group=WORKER_GROUP)
        assert (await _progress(near)).lost == 0
        (outcome,) = await near.publish(messages(["x"], partition=0, of=near))
        assert isinstance(outcome, Appended), outcome
    assert (await _progress(near)).lag == 4, "a position beyond the end says nothing of them"
    await settle(near, 4)
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (0, 0)
