"""Lag and loss are correct where Redis reports them wrongly, or not at all."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from transport.conformance.member import Member, contents, drain, message, messages, until
from transport.contract import WORKER_GROUP, Appended, Progress, Topic
from transport.redis import RedisTransport

PATIENCE = 10.0
STREAM = "msg:stream:0"


async def _progress(transport: RedisTransport) -> Progress:
    return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]


async def _xinfo(client: Redis) -> dict[str, int | None]:
    (group, *_) = await client.xinfo_groups(STREAM)
    return dict(group)


async def test_lag_is_told_where_redis_says_null(near: RedisTransport, client: Redis) -> None:
    await near.publish(messages(list("abcdef"), partition=0, of=near))
    async with Member(near) as member:
        claim = await member.claim(0)
        records = await drain(claim, 2, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        stands = await near.read(Topic.MESSAGES, 0)
        await client.xdel(STREAM, stands[4].offset)
        assert (await _xinfo(client))["lag"] is None, "or this test shows nothing"
        progress = await _progress(near)
        assert (progress.lag, progress.pending, progress.lost) == (3, 0, 1)
        assert progress.oldest_age is not None
        rest = await drain(claim, 3, patience=PATIENCE)
        assert contents(rest) == ["c", "d", "f"]
        await claim.ack(rest[-1].offset)
        progress = await _progress(near)
        assert (progress.lag, progress.lost) == (0, 1)


@pytest.mark.parametrize("read_before", [0, 2])
@pytest.mark.parametrize("harm", ["xdel", "xtrim", "xtrim-some"])
async def test_records_removed_unread_are_lost_though_later_ones_were_read_past_them(
    near: RedisTransport, client: Redis, harm: str, read_before: int
) -> None:
    """Redis up to 7.4 and Valkey up to 8.0 count them as waiting for ever."""
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(list("abcdef"), partition=0, of=near))
        if read_before:
            records = await drain(claim, read_before, patience=PATIENCE)
            await claim.ack(records[-1].offset)
        kept = 1 if harm == "xtrim-some" else 0
        if harm == "xdel":
            offsets = [record.offset for record in await near.read(Topic.MESSAGES, 0)]
            await client.xdel(STREAM, *offsets)
        else:
            await client.xtrim(STREAM, maxlen=kept, approximate=False)
        await near.publish(messages(["g"], partition=0, of=near))
        records = await drain(claim, kept + 1, patience=PATIENCE)
        await near.publish(messages(["h", "i"], partition=0, of=near))
        await claim.ack(records[-1].offset)
        progress = await _progress(near)
        assert (progress.lag, progress.lost) == (2, 6 - read_before - kept)
        records = await drain(claim, 2, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        progress = await _progress(near)
        assert (progress.lag, progress.lost) == (0, 6 - read_before - kept)


async def test_what_we_trim_ourselves_needs_no_counting(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """To count a backlog by reading it after each trimming would hold Redis up."""
    brief = short_settings(own_redis, stream_retention_records=10)
    async with RedisTransport.from_settings(brief) as log, Member(log) as member:
        claim = await member.claim(0)
        await log.publish(messages(["x"] * 1_500, partition=0, of=log))

        async def is_trimmed() -> bool:
            records = await drain(claim, 50, patience=PATIENCE)
            await claim.ack(records[-1].offset)
            return await client.xlen(STREAM) < 1_300

        await eventually(is_trimmed, timeout=30, every=0.2)
        others = await client.hget(f"{{{STREAM}}}:lease:{WORKER_GROUP}", "others")
        assert others == b"0", "nobody else removed records"
        assert (await _progress(log)).lag == (await _xinfo(client))["lag"] is not None


async def test_lag_that_would_take_too_long_to_count_is_unknown_and_not_zero(
    near: RedisTransport, client: Redis
) -> None:
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(["x"] * 10_050, partition=0, of=near))
        await drain(claim, 1, patience=PATIENCE)
    stands = await near.read(Topic.MESSAGES, 0, limit=4)
    await client.xdel(STREAM, stands[3].offset)
    progress = await _progress(near)
    assert progress.lag is None
    assert progress.pending == 1


async def _reads(client: Redis) -> int:
    """Return the number of the server's calls that read records of a stream."""
    stats = await client.info("commandstats")
    return int(stats["cmdstat_xrange"]["calls"])


async def test_many_repeats_are_told_apart_by_counting_what_waits_once(
    near: RedisTransport, client: Redis
) -> None:
    """Each repeat of what has left the log would count it anew, and hold Redis for seconds."""
    old = messages([f"old {n}" for n in range(200)], partition=0, of=near)
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(old)
        records = await drain(claim, 200, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        await client.xtrim(STREAM, maxlen=0, approximate=False)
        await near.publish(messages(["x"] * 1500, partition=0, of=near))
        stands = await near.read(Topic.MESSAGES, 0, limit=4)
        await client.xdel(STREAM, stands[3].offset)
        assert (await _xinfo(client))["lag"] is None, "or this test shows nothing"
        before = await _reads(client)
        assert await near.recall([envelope.message_id for envelope in old[:50]]) == [None] * 50
        outcomes = await near.publish(old)
        assert {type(outcome) for outcome in outcomes} == {Appended}, "somebody deleted a record"
        assert await _reads(client) - before < 250 + 2 * 10, "one for each, and the counting"


async def test_lag_of_large_records_is_not_counted_by_reading_all_of_them(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """The server takes its time for 40 MB on a busy disk: its timeout is no part of this."""
    patient = short_settings(own_redis, redis_timeout_ms=20_000)
    async with RedisTransport.from_settings(patient) as near:
        await _lag_of_large_records(near, client)


async def _lag_of_large_records(near: RedisTransport, client: Redis) -> None:
    async with Member(near) as member:
        claim = await member.claim(0)
        large = "x" * 1024 * 1024
        await near.publish([message(large, partition=0, of=near)])
        await drain(claim, 1, patience=PATIENCE)
    for _ in range(13):
        await near.publish(messages([large] * 3, partition=0, of=near))
    stands = await near.read(Topic.MESSAGES, 0, limit=4)
    await client.xdel(STREAM, stands[3].offset)
    before = await client.info("stats")
    assert (await _progress(near)).lag is None
    after = await client.info("stats")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 100_000
    assert (await _xinfo(client))["lag"] is None, "or this test shows nothing"


async def test_records_trimmed_unread_are_counted_as_lost_and_not_as_lag(
    near: RedisTransport, client: Redis
) -> None:
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(list("abcdefgh"), partition=0, of=near))
        records = await drain(claim, 2, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        await client.xtrim(STREAM, maxlen=3, approximate=False)
        progress = await _progress(near)
        assert (progress.lag, progress.lost) == (3, 3)
        rest = await drain(claim, 3, patience=PATIENCE)
        assert contents(rest) == ["f", "g", "h"]
        await claim.ack(rest[-1].offset)
        progress = await _progress(near)
        assert (progress.lag, progress.lost) == (0, 3)
        await near.publish([message("i", partition=0, of=near)])
        assert (await _progress(near)).lag == 1, "7.0 by itself would say 4"


async def test_pending_records_that_were_deleted_are_lost_and_do_not_come_without_a_body(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abcde"), partition=0, of=near))
    async with Member(near) as member:
        claim = await member.claim(0)
        records = await drain(claim, 5, patience=PATIENCE)
        await client.xdel(STREAM, records[0].offset, records[3].offset)
        await claim.nack()
        again = await drain(claim, 3, patience=PATIENCE)
        assert contents(again) == ["b", "c", "e"]
        await claim.ack(again[-1].offset)
        progress = await _progress(near)
        assert (progress.lag, progress.pending, progress.lost) == (0, 0, 2)


async def test_a_server_that_read_its_file_again_has_lost_nothing(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """Redis 7.0's file has a group's position, but not its count of entries up to there."""
    lasting = short_settings(own_redis, stream_lease_ms=60_000)
    async with RedisTransport.from_settings(lasting) as log, Member(log) as member:
        claim = await member.claim(0)
        await log.publish(messages(list("abcdefgh"), partition=0, of=log))
        records = await drain(claim, 2, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        records = await drain(claim, 3, patience=PATIENCE)
        await own_redis.kill()
        await own_redis.start()
        progress = await _progress(log)
        assert (progress.lag, progress.pending, progress.lost) == (6, 3, 0)
        await claim.ack(records[-1].offset)
        progress = await _progress(log)
        assert (progress.lag, progress.lost) == (3, 0)
        own = await _xinfo(client)
        assert (own["entries-read"], own["lag"]) == (5, 3), "Redis' own count is set right"
        records = await drain(claim, 3, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        progress = await _progress(log)
        assert (progress.lag, progress.lost) == (0, 0)


async def test_a_page_of_nothing_but_deleted_records_does_not_end_the_reading(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abcdefg"), partition=0, of=near))
    async with Member(near) as member:
        claim = await member.claim(0)
        records = await drain(claim, 6, patience=PATIENCE)
        await client.xdel(STREAM, *(record.offset for record in records[:4]))
        await claim.nack()
        assert contents(await claim.next(max_records=2, max_wait=0)) == ["e", "f"]
        assert contents(await claim.next(max_records=2, max_wait=0)) == ["g"]


async def test_a_loss_of_all_data_is_told_as_far_as_it_is_known(
    near: RedisTransport, client: Redis
) -> None:
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(list("abc"), partition=0, of=near))
        records = await drain(claim, 1, patience=PATIENCE)
        await claim.ack(records[-1].offset)

        async def looked() -> bool:
            return member.consumer.unread.get(0) == 2  # type: ignore[attr-defined]

        await until(looked, patience=PATIENCE)
        await client.flushall()
        await until(lambda: member.claims[0] is not claim, patience=PATIENCE)
        assert [(await _progress(near)).lost for _ in range(3)] == [2, 2, 2]
        await near.publish([message("new", partition=0, of=near)])
        assert contents(await drain(member.claims[0], 1, patience=PATIENCE)) == ["new"]
        assert (await _progress(near)).lost == 2
        assert member.claims[0].epoch > claim.epoch


async def test_a_deleted_stream_is_told_as_lost_before_anybody_reads_again(
    near: RedisTransport, client: Redis
) -> None:
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(list("abcd"), partition=0, of=near))
        records = await drain(claim, 1, patience=PATIENCE)
        await claim.ack(records[-1].offset)
    await client.delete(STREAM)
    progress = await _progress(near)
    assert (progress.lag, progress.lost, progress.end) == (0, 3, None)


async def test_a_group_made_on_a_trimmed_log_has_lost_nothing(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish(messages(list("abcdef"), partition=0, of=near))
    await client.xtrim(STREAM, maxlen=2, approximate=False)
    async with Member(near, group="late") as member:
        claim = await member.claim(0)
        records = await drain(claim, 2, patience=PATIENCE)
        assert contents(records) == ["e", "f"]
        await claim.ack(records[-1].offset)
    progress = (await near.progress(Topic.MESSAGES, group="late"))[0]
    assert (progress.lag, progress.lost) == (0, 0)


async def test_what_another_consumer_left_is_taken_over_in_order(
    near: RedisTransport, client: Redis
) -> None:
    """Records were read by hand, or by another program, and not acknowledged."""
    await near.publish(messages(list("abcdef"), partition=0, of=near))
    for consumer, count in (("by-hand", 2), ("p0", 2), ("other-program", 1)):
        await client.xreadgroup(WORKER_GROUP, consumer, {STREAM: ">"}, count=count)
    async with Member(near) as member:
        claim = await member.claim(0)
        assert contents(await drain(claim, 6, patience=PATIENCE)) == list("abcdef")


async def test_one_that_is_acknowledged_late_moves_nothing_back(
    near: RedisTransport, client: Redis
) -> None:
    """Another consumer had it, and what came after it is acknowledged."""
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish(messages(list("abc"), partition=0, of=near))
        await client.xreadgroup(WORKER_GROUP, "by-hand", {STREAM: ">"}, count=1)
        records = await drain(claim, 2, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        assert (await _progress(near)).acknowledged == records[-1].offset
    async with Member(near) as member:
        claim = await member.claim(0)
        late = await drain(claim, 1, patience=PATIENCE)
        assert contents(late) == ["a"]
        await claim.ack(late[0].offset)
        progress = await _progress(near)
        assert (progress.acknowledged, progress.lag) == (records[-1].offset, 0)


async def test_consumer_registrations_do_not_pile_up(near: RedisTransport, client: Redis) -> None:
    for i in range(5):
        async with Member(near, f"member-{i}") as member:
            claim = await member.claim(0)
            await near.publish([message("x", partition=0, of=near)])
            (record,) = await drain(claim, 1, patience=PATIENCE)
            await claim.ack(record.offset)
    assert len(await client.xinfo_consumers(STREAM, WORKER_GROUP)) == 1
    assert await client.zcard("{msg:stream}:members:persistence-workers") == 0


async def test_the_owner_is_named_while_its_lease_runs(near: RedisTransport) -> None:
    async with Member(near, "its-name") as member:
        await member.claim(0)
        assert (await _progress(near)).owner == "its-name"
    assert (await _progress(near)).owner is None
