"""Two logs in one database, used by one process: they are independent of each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest_asyncio
from redis.asyncio import Redis

from tests.support.eventually import eventually
from tests.transport.settler import Settler, settle
from transport.clock import now
from transport.conformance.envelopes import contents, messages
from transport.contract import DLQ_GROUP, WORKER_GROUP, DeadLetter, Reason, Remembered, Topic
from transport.redis import RedisTransport
from transport.registry import create
from transport.settings import TransportSettings


@pytest_asyncio.fixture
async def large(near: RedisTransport, settings: TransportSettings) -> AsyncIterator[RedisTransport]:
    """A log of six partitions, beside the four of ``near``."""
    async with create("redis@6", settings) as log:
        assert isinstance(log, RedisTransport)
        yield log


async def test_a_count_is_in_the_name_of_every_key(
    near: RedisTransport, large: RedisTransport, client: Redis
) -> None:
    assert (near.name, large.name, large.system) == ("redis", "redis@6", "redis")
    before = set(await client.keys())
    await large.publish(messages(["a"], partition=5, of=large))
    await large.ping()
    (record,) = await settle(large, 1, partition=5)
    await large.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
    (letter,) = await large.read(Topic.DEAD_LETTERS, 0)
    await large.publish_positions(Topic.DEAD_LETTERS, {0: letter.offset}, group=DLQ_GROUP)
    made = {key.decode() for key in set(await client.keys()) - before}
    assert made
    assert all(key.lstrip("{").startswith(("msg:stream@6", "msg:dlq@6")) for key in made), made
    streams = {key.decode() for key in await client.keys() if not key.startswith(b"{")}
    assert streams == {
        *(f"msg:stream:{p}" for p in range(4)), "msg:dlq",
        *(f"msg:stream@6:{p}" for p in range(6)), "msg:dlq@6",
    }  # fmt: skip


async def test_each_is_worked_off_trimmed_and_counted_by_itself(
    near: RedisTransport, large: RedisTransport
) -> None:
    logs = (near, large)
    workers = [Settler(log) for log in logs]
    async with workers[0].working(), workers[1].working():
        for log in logs:
            await log.publish(messages([f"{log.name} {i}" for i in range(20)], partition=3, of=log))
        for log, worker in zip(logs, workers, strict=True):
            await eventually(lambda w=worker: len(w.records) == 20)  # type: ignore[misc]
            assert contents(worker.records) == [f"{log.name} {i}" for i in range(20)]
            await eventually(partial(_is_worked_off, log))
    for log in logs:
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert [part.appended for part in progress] == [0, 0, 0, 20, 0, 0][: log.partitions]
        assert not any(part.lost for part in progress)


async def _is_worked_off(log: RedisTransport) -> bool:
    """Whether all is settled, which a worker does after it has a record."""
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return all(part.lag == 0 for part in progress)


async def test_what_one_remembers_is_new_to_the_other(
    near: RedisTransport, large: RedisTransport
) -> None:
    (envelope,) = messages(["a"], partition=1, of=near)
    await near.publish([envelope])
    assert await large.recall([envelope.message_id]) == [None]
    await large.publish([envelope])
    for log in (near, large):
        (outcome,) = await log.publish([envelope])
        assert isinstance(outcome, Remembered)
        assert len(await log.read(Topic.MESSAGES, 1)) == 1


async def test_a_count_that_is_named_is_another_log_than_the_same_by_default(
    near: RedisTransport, settings: TransportSettings
) -> None:
    async with create("redis@4", settings) as named:
        assert (named.partitions, near.partitions) == (4, 4)
        await near.publish(messages(["a"], partition=0, of=near))
        assert not await named.read(Topic.MESSAGES, 0)


async def test_a_group_is_forgotten_with_all_its_keys_in_one_log(
    near: RedisTransport, large: RedisTransport, client: Redis
) -> None:
    for log in (near, large):
        await log.publish(messages(["a"], partition=0, of=log))
        await settle(log, 1, group="passing")
    await near.forget_group("passing")
    left = {key.decode() for key in await client.keys("*passing*")}
    assert left
    assert all(key.startswith("{msg:stream@6") for key in left), left
    groups = [await client.xinfo_groups(stream) for stream in ("msg:stream:0", "msg:stream@6:0")]
    assert [[group["name"] for group in of] for of in groups] == [
        [b"persistence-workers"],
        [b"passing", b"persistence-workers"],
    ]


async def test_one_log_is_removed_and_the_other_stays_byte_for_byte(
    near: RedisTransport, large: RedisTransport, client: Redis
) -> None:
    """Other programs' keys stay as well, however much they look like ours."""
    strangers = [
        "msg:stream", "msg:stream:4", "msg:stream:x", "msg:dlq:0", "x{msg:stream}:identity",
        "{msg:stream}:x", "{msg:stream:4}:memory:0", "{msg:stream:0}:accounts",
    ]  # fmt: skip
    for key in strangers:
        await client.set(key, "theirs")
    for log in (near, large):
        await _use(log)
    before = await _dumps(client)
    for log in (near, large):
        await log.remove()
        left = await _dumps(client)
        prefixes = {"redis": ("msg:stream@6", "msg:dlq@6"), "redis@6": ()}[log.name]
        kept = {
            key: dump
            for key, dump in before.items()
            if key.decode() in strangers or key.decode().lstrip("{").startswith(prefixes or "-")
        }
        assert left == kept
    assert set(left) == {key.encode() for key in strangers}


async def test_what_is_removed_is_told_with_records_and_bytes(
    near: RedisTransport, client: Redis
) -> None:
    await _use(near)
    keys = {key.decode() for key in await client.keys()}
    found = await near.remove(dry_run=True)
    assert {holding.name for holding in found if holding.kind != "group"} == keys
    assert all(holding.bytes for holding in found if holding.kind != "group")
    (stream,) = [holding for holding in found if holding.name == "msg:stream:1"]
    assert (stream.kind, stream.records) == ("stream", 1)
    assert [holding.name for holding in found if holding.kind == "group"] == [
        "passing on msg:stream",
        "persistence-workers on msg:stream",
        "dlq-processors on msg:dlq",
    ]


async def test_a_removal_that_failed_halfway_is_done_by_the_next(
    near: RedisTransport, settings: TransportSettings, client: Redis
) -> None:
    """What was removed by then is new, not lost."""
    await _use(near)
    await client.unlink("msg:stream:0", *await client.keys("{msg:stream:0}:*"))
    async with create("redis", settings) as again:
        progress = await again.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert [(part.lag, part.lost) for part in progress] == [(0, 0), (1, 0), (0, 0), (0, 0)]
        await again.remove()
    assert not await client.keys()


async def _use(log: RedisTransport) -> None:
    """Leave a key of every kind."""
    await log.publish(messages(["a"], partition=1, of=log))
    await log.identity()
    await log.ping()
    (record,) = await log.read(Topic.MESSAGES, 1)
    await log.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
    await settle(log, 1, partition=1, group="passing")


async def _dumps(client: Redis) -> dict[bytes, bytes]:
    return {key: await client.dump(key) for key in sorted(await client.keys())}
