"""Lag and loss are correct where Redis reports them wrongly, or not at all."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.settler import settle
from transport.conformance.envelopes import contents, message, messages
from transport.contract import WORKER_GROUP, Appended, Progress, Topic
from transport.redis import RedisTransport

STREAM = "msg:stream:0"
ACCOUNTS = f"{{{STREAM}}}:accounts:{WORKER_GROUP}"


async def _progress(transport: RedisTransport) -> Progress:
    return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]


async def _publish(transport: RedisTransport, offset: str) -> None:
    await transport.publish_positions(Topic.MESSAGES, {0: offset}, group=WORKER_GROUP)


async def _xinfo(client: Redis) -> dict[str, int | None]:
    (group, *_) = await client.xinfo_groups(STREAM)
    return dict(group)


async def test_lag_is_told_where_redis_says_null(near: RedisTransport, client: Redis) -> None:
    await near.publish(messages(list("abcdef"), partition=0, of=near))
    records = await settle(near, 2)
    stands = await near.read(Topic.MESSAGES, 0)
    await client.xdel(STREAM, stands[4].offset)
    assert (await _xinfo(client))["lag"] is None, "or this test shows nothing"
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (3, 1)
    assert progress.oldest_age is not None
    rest = await settle(near, 3, after=records[-1])
    assert contents(rest) == ["c", "d", "f"]
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (0, 1)


@pytest.mark.parametrize("read_before", [0, 2])
@pytest.mark.parametrize("harm", ["xdel", "xtrim", "xtrim-some"])
async def test_records_removed_unread_are_lost_though_later_ones_were_read_past_them(
    near: RedisTransport, client: Redis, harm: str, read_before: int
) -> None:
    """Redis up to 7.4 and Valkey up to 8.0 count them as waiting for ever."""
    await near.publish(messages(list("abcdef"), partition=0, of=near))
    offsets = [record.offset for record in await near.read(Topic.MESSAGES, 0)]
    records = await settle(near, read_before) if read_before else [None]
    kept = 1 if harm == "xtrim-some" else 0
    if harm == "xdel":
        await client.xdel(STREAM, *offsets)
    else:
        await client.xtrim(STREAM, maxlen=kept, approximate=False)
    await near.publish(messages(["g"], partition=0, of=near))
    records = await settle(near, kept + 1, after=records[-1])
    await near.publish(messages(["h", "i"], partition=0, of=near))
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (2, 6 - read_before - kept)
    await settle(near, 2, after=records[-1])
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (0, 6 - read_before - kept)


async def test_what_we_trim_ourselves_needs_no_counting(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """To count a backlog by reading it after each trimming would hold Redis up."""
    brief = short_settings(own_redis, stream_retention_records=10)
    async with RedisTransport.from_settings(brief) as log:
        await log.publish(messages(["x"] * 1_500, partition=0, of=log))
        last = None
        for _ in range(6):
            last = (await settle(log, 50, after=last))[-1]
        assert await client.xlen(STREAM) < 1_300
        others = await client.hget(ACCOUNTS, "others")
        assert others == b"0", "no other program removed records"
        assert (await _progress(log)).lag == (await _xinfo(client))["lag"] == 1_200


async def test_records_deleted_ahead_of_too_many_to_count_are_lost_once_fewer_wait(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(["x"] * 10_050, partition=0, of=near))
    stands = await near.read(Topic.MESSAGES, 0, limit=2_000)
    await _publish(near, stands[0].offset)
    await client.xdel(STREAM, stands[3].offset, stands[9].offset)
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (10_049, 0), "it is not known yet"
    await _publish(near, stands[999].offset)

    async def are_counted() -> bool:
        progress = await _progress(near)
        return (progress.lag, progress.lost) == (9_050, 2)

    await eventually(are_counted)


async def test_lag_that_would_take_too_long_to_count_is_unknown_and_not_zero(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(["x"] * 10_050, partition=0, of=near))
    stands = await near.read(Topic.MESSAGES, 0, limit=4)
    await client.delete(ACCOUNTS)
    await client.xgroup_setid(STREAM, WORKER_GROUP, stands[0].offset)
    await client.xdel(STREAM, stands[3].offset)
    assert (await _progress(near)).lag is None


async def test_a_position_that_passes_more_records_than_are_counted_in_a_call_loses_none(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """Forward and back, with as many records ahead of it."""
    all_stay = short_settings(own_redis, stream_retention_records=100_000)
    async with RedisTransport.from_settings(all_stay) as log:
        await _pass_many(log, client)


async def _pass_many(near: RedisTransport, client: Redis) -> None:
    await near.publish(messages(["x"] * 35_000, partition=0, of=near))
    first = (await near.read(Topic.MESSAGES, 0, limit=1))[0].offset
    last = await near.read_back(Topic.MESSAGES, 0, limit=5_000)
    at = {first: 34_999, last[0].offset: len(last) - 1}
    for _ in range(2):
        for offset, lag in at.items():
            await _publish(near, offset)
            progress = await _progress(near)
            assert (progress.floor, progress.lag, progress.lost) == (offset, lag, 0)
            assert (await _xinfo(client))["lag"] == lag


async def _reads(client: Redis) -> int:
    """Return the number of the server's calls that read records of a stream."""
    stats = await client.info("commandstats")
    return int(stats["cmdstat_xrange"]["calls"])


async def test_many_repeats_are_told_apart_by_counting_what_waits_once(
    near: RedisTransport, client: Redis
) -> None:
    """Each repeat of what has left the log would count it again, and hold Redis for seconds."""
    old = messages([f"old {n}" for n in range(200)], partition=0, of=near)
    await near.publish(old)
    await settle(near, 200)
    await client.xtrim(STREAM, maxlen=0, approximate=False)
    await near.publish(messages(["x"] * 1500, partition=0, of=near))
    stands = await near.read(Topic.MESSAGES, 0, limit=4)
    await client.xdel(STREAM, stands[3].offset)
    before = await _reads(client)
    assert await near.recall([envelope.message_id for envelope in old[:50]]) == [None] * 50
    outcomes = await near.publish(old)
    assert {type(outcome) for outcome in outcomes} == {Appended}, "an operator deleted a record"
    assert await _reads(client) - before < 250 + 2 * 10, "one for each, and the counting"


async def test_lag_of_large_records_is_not_counted_by_reading_all_of_them(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """The server takes its time for 40 MB on a busy disk: its timeout is no part of this."""
    patient = short_settings(own_redis, redis_timeout_ms=20_000)
    async with RedisTransport.from_settings(patient) as near:
        await _lag_of_large_records(near, client)


async def _lag_of_large_records(near: RedisTransport, client: Redis) -> None:
    large = "x" * 1024 * 1024
    for _ in range(13):
        await near.publish(messages([large] * 3, partition=0, of=near))
    stands = await near.read(Topic.MESSAGES, 0, limit=4)
    await client.delete(ACCOUNTS)
    await client.xgroup_setid(STREAM, WORKER_GROUP, stands[0].offset)
    await client.xdel(STREAM, stands[2].offset)
    before = await client.info("stats")
    assert (await _progress(near)).lag is None
    after = await client.info("stats")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 100_000


async def test_records_trimmed_unread_are_counted_as_lost_and_not_as_lag(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abcdefgh"), partition=0, of=near))
    records = await settle(near, 2)
    await client.xtrim(STREAM, maxlen=3, approximate=False)
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (3, 3)
    rest = await settle(near, 3, after=records[-1])
    assert contents(rest) == ["f", "g", "h"]
    progress = await _progress(near)
    assert (progress.lag, progress.lost) == (0, 3)
    await near.publish([message("i", partition=0, of=near)])
    assert (await _progress(near)).lag == 1, "7.0 alone would report 4"


async def test_a_server_that_read_its_file_again_has_lost_nothing(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """Redis 7.0's file has a group's position, but not its count of entries up to there."""
    async with RedisTransport.from_settings(short_settings(own_redis)) as log:
        await log.publish(messages(list("abcdefgh"), partition=0, of=log))
        records = await settle(log, 2)
        await own_redis.kill()
        await own_redis.start()
        progress = await _progress(log)
        assert (progress.lag, progress.lost) == (6, 0)
        records = await settle(log, 3, after=records[-1])
        progress = await _progress(log)
        assert (progress.lag, progress.lost) == (3, 0)
        own = await _xinfo(client)
        assert (own["entries-read"], own["lag"]) == (5, 3), "Redis' own count is corrected"
        await settle(log, 3, after=records[-1])
        progress = await _progress(log)
        assert (progress.lag, progress.lost) == (0, 0)


async def test_a_loss_of_all_data_is_told_as_far_as_it_is_known(
    near: RedisTransport, client: Redis
) -> None:
    """As soon as the log is there again."""
    await near.publish(messages(list("abc"), partition=0, of=near))
    (record,) = await settle(near, 1)
    await client.flushall()
    await _publish(near, record.offset)
    assert not await client.exists(STREAM, ACCOUNTS), "a position creates no log"
    await near.publish([message("new", partition=0, of=near)])
    for _ in range(3):
        progress = await _progress(near)
        assert (progress.lag, progress.lost) == (1, 2)
    assert contents(await near.read(Topic.MESSAGES, 0, after=record.offset)) == ["new"]


async def test_a_deleted_stream_is_told_as_lost_before_anybody_reads_again(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abcd"), partition=0, of=near))
    await settle(near, 1)
    await client.delete(STREAM)
    progress = await _progress(near)
    assert (progress.lag, progress.lost, progress.end) == (0, 3, None)


async def test_a_group_made_on_a_trimmed_log_has_lost_nothing(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abcdef"), partition=0, of=near))
    await client.xtrim(STREAM, maxlen=2, approximate=False)
    assert contents(await settle(near, 2, group="late")) == ["e", "f"]
    progress = (await near.progress(Topic.MESSAGES, group="late"))[0]
    assert (progress.lag, progress.lost) == (0, 0)
