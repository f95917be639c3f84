"""A long read is made of short calls: the server serves others between them."""

from __future__ import annotations

import msgspec
import pytest
from redis.asyncio import Redis

from tests.persistence.samples import message
from tests.support.mirrors import seal
from transport.conformance.envelopes import messages
from transport.contract import READ_BYTES, Topic
from transport.redis import RedisTransport
from transport.sizes import size_of

MOST_OF_A_CALL = 100
RECORDS = 350
LARGE = 1 << 19


@pytest.fixture
async def offsets(near: RedisTransport) -> list[str]:
    """The offsets of many records of partition 0, in order."""
    return await filled(near, RECORDS)


async def filled(log: RedisTransport, count: int, content: str = "hello") -> list[str]:
    envelopes = [seal(message(f"c{number}", "conv", content), 1) for number in range(count)]
    offsets = []
    for first in range(0, count, 50):
        outcomes = await log.publish(envelopes[first : first + 50])
        offsets += [outcome.offset for outcome in outcomes]
    return offsets


async def most_read_at_once(client: Redis) -> int:
    """Return the most records that one of the calls so far asked the server for."""
    asked = [entry["command"].split() for entry in await client.slowlog_get(1000)]
    return max(int(words[-2]) for words in asked if words[1].endswith(b"_range"))


async def test_no_call_reads_many_records(near: RedisTransport, client: Redis, offsets) -> None:
    await client.config_set("slowlog-log-slower-than", 0)
    await client.config_set("slowlog-max-len", 1000)
    await client.slowlog_reset()
    forth = await near.read(Topic.MESSAGES, 0, limit=RECORDS)
    back = await near.read_back(Topic.MESSAGES, 0, limit=RECORDS)
    assert [record.offset for record in forth] == [record.offset for record in back] == offsets
    assert await most_read_at_once(client) == MOST_OF_A_CALL


@pytest.mark.parametrize("limit", [0, 1, 100, 101, 200, 250, 349, 350, 351, 1000])
async def test_a_read_ends_at_its_limit_or_the_logs(
    near: RedisTransport, offsets, limit: int
) -> None:
    found = await near.read(Topic.MESSAGES, 0, limit=limit)
    assert [record.offset for record in found] == offsets[:limit]
    found = await near.read(Topic.MESSAGES, 0, after=offsets[9], limit=limit)
    assert [record.offset for record in found] == offsets[10 : 10 + limit]
    found = await near.read_back(Topic.MESSAGES, 0, limit=limit)
    assert [record.offset for record in found] == offsets[max(0, RECORDS - limit) :]
    found = await near.read_back(Topic.MESSAGES, 0, before=offsets[-9], limit=limit)
    assert [record.offset for record in found] == offsets[max(0, RECORDS - 9 - limit) : -9]


async def test_a_read_of_several_calls_ends_where_its_bytes_are_enough(
    near: RedisTransport,
) -> None:
    """100 of them are less than a read may hold, and 200 are more."""
    offsets = await filled(near, 200, "x" * 30_000)
    found = await near.read(Topic.MESSAGES, 0, limit=200)
    assert [record.offset for record in found] == offsets[: len(found)]
    assert MOST_OF_A_CALL < len(found) < 200
    # The server counts the fields' names too, so it may stop a record earlier.
    assert (
        READ_BYTES - 2 * size_of(found[-1])
        < sum(map(size_of, found))
        < READ_BYTES + size_of(found[-1])
    )
    back = await near.read_back(Topic.MESSAGES, 0, limit=200)
    assert [record.offset for record in back] == offsets[-len(back) :]
    assert MOST_OF_A_CALL < len(back) < 200


async def test_what_is_more_than_the_server_may_reply_is_read_in_parts(
    near: RedisTransport, client: Redis
) -> None:
    """It closes the connection instead, each time."""
    name = "client-output-buffer-limit"
    before = (await client.config_get(name))[name]
    await client.config_set(name, f"normal {2 * LARGE} 0 0")
    try:
        large = [
            msgspec.structs.replace(envelope, body=bytes(LARGE))
            for envelope in messages(["x"] * 6, partition=0, of=near)
        ]
        await near.publish(large)
        for limit in (6, 3):
            found = await near.read(Topic.MESSAGES, 0, limit=limit, wait=10.0)
            assert [len(record.body) for record in found] == [LARGE] * limit
    finally:
        await client.config_set(name, before)
