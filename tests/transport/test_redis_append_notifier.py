"""The append notifier: one blocking read for all waiting ones; its failures only cost time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.transport.redis_backend import short_settings
from transport.conformance.envelopes import contents, message
from transport.contract import Record, Topic
from transport.redis import RedisTransport
from transport.redis.append.own_appends import OwnAppends
from transport.redis.client.connections import RedisConnections
from transport.redis.delivery import append_notifier
from transport.redis.delivery.append_notifier import AppendNotifier
from transport.settings import TransportSettings

LONG = 3600.0


@pytest.fixture(autouse=True)
def a_blocking_read_lasts_longer_than_any_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_notifier, "_BLOCK_MS", int(LONG * 1000))


@pytest_asyncio.fixture
async def connections(settings: TransportSettings) -> AsyncIterator[RedisConnections]:
    connections = RedisConnections(settings)
    yield connections
    await connections.close()


async def _none_under_way(_: float) -> None:
    """No append of this process is without an answer."""


async def _next(log: RedisTransport, partition: int, after: str | None = None) -> list[Record]:
    return list(await log.read(Topic.MESSAGES, partition, after=after, wait=LONG))


async def _blocked(client: Redis) -> int:
    return int((await client.info("clients"))["blocked_clients"])


async def _until_blocked(client: Redis) -> None:
    async def blocked() -> bool:
        return await _blocked(client) == 1

    await eventually(blocked)


async def test_an_append_rings_whoever_waits_for_that_stream_only(
    connections: RedisConnections, client: Redis
) -> None:
    async with AppendNotifier(connections, _none_under_way) as bell:
        one = asyncio.create_task(bell.wait("one", after="0-0", seconds=LONG))
        two = asyncio.create_task(bell.wait("two", after="0-0", seconds=LONG))
        await _until_blocked(client)
        await client.xadd("one", {"k": "v"})
        assert await one is True
        assert not two.done()
        await client.xadd("two", {"k": "v"})
        assert await two is True


async def test_a_wait_that_begins_during_a_read_is_heard_at_once(
    connections: RedisConnections, client: Redis
) -> None:
    async with AppendNotifier(connections, _none_under_way) as bell:
        first = asyncio.create_task(bell.wait("first", after="0-0", seconds=LONG))
        await _until_blocked(client)
        await client.xadd("second", {"k": "v"})
        assert await bell.wait("second", after="0-0", seconds=LONG)
        assert not first.done()


async def test_waiting_reads_share_one_connection(near: RedisTransport, client: Redis) -> None:
    waits = [asyncio.create_task(_next(near, partition)) for partition in range(near.partitions)]
    await _until_blocked(client)
    for partition in (2, 0, 3, 1):
        await near.publish([message(str(partition), partition=partition, of=near)])
        assert contents(await waits[partition]) == [str(partition)]
        assert await _blocked(client) <= 1


async def test_a_busy_stream_does_not_keep_the_read_returning(
    connections: RedisConnections, client: Redis
) -> None:
    """No reader waits for ``busy``: it may ring once, and the read then sleeps again."""
    async with AppendNotifier(connections, _none_under_way) as bell:
        assert not await bell.wait("busy", after="0-0", seconds=0.1)
        idle = asyncio.create_task(bell.wait("idle", after="0-0", seconds=LONG))
        await _until_blocked(client)
        await client.config_resetstat()
        for i in range(100):
            await client.xadd("busy", {"k": i})
        reads = (await client.info("commandstats")).get("cmdstat_xread", {"calls": 0})["calls"]
        assert reads <= 3
        await client.xadd("idle", {"k": "v"})
        assert await idle


async def test_a_wait_ends_after_its_time_and_with_the_notifier(
    connections: RedisConnections,
) -> None:
    async with AppendNotifier(connections, _none_under_way) as bell:
        assert await bell.wait("quiet", after="0-0", seconds=0.05) is False
        left = asyncio.create_task(bell.wait("quiet", after="0-0", seconds=LONG))
        await asyncio.sleep(0.01)
    assert await left is True, "closing ends every wait"


async def test_two_that_wait_for_a_stream_are_both_rung(
    connections: RedisConnections, client: Redis
) -> None:
    """One is behind: the other has read, or was handed, what comes after its entry."""
    async with AppendNotifier(connections, _none_under_way) as bell:
        for last in ("10-0", "20-0"):
            ahead = asyncio.create_task(bell.wait("one", after=last, seconds=LONG))
            await _until_blocked(client)
            await client.xadd("one", {"k": "v"}, id=f"{int(last[:2]) - 2}-0")
            behind = asyncio.create_task(bell.wait("one", after="5-0", seconds=LONG))
            assert await behind
            await client.xadd("one", {"k": "v"}, id=f"{int(last[:2]) + 5}-0")
            assert await ahead


async def test_a_cancelled_wait_leaves_the_read_unless_another_waits_for_its_stream(
    connections: RedisConnections, client: Redis
) -> None:
    async with AppendNotifier(connections, _none_under_way) as bell:
        left, stays, again = (
            asyncio.create_task(bell.wait(stream, after="0-0", seconds=LONG))
            for stream in ("left", "stays", "stays")
        )
        await _until_blocked(client)
        for cancelled in (left, again):
            cancelled.cancel()
            await asyncio.wait([cancelled])
        await client.xadd("other", {"k": "v"})
        assert await bell.wait("other", after="0-0", seconds=LONG), "so another read has begun"
        await _until_blocked(client)
        await client.config_resetstat()
        for _ in range(10):
            await client.xadd("left", {"k": "v"})
        await asyncio.sleep(0.05)
        assert "cmdstat_xread" not in await client.info("commandstats"), "nothing ended the read"
        await client.xadd("stays", {"k": "v"})
        assert await stays


async def test_a_killed_connection_is_made_again(
    connections: RedisConnections, client: Redis
) -> None:
    async with AppendNotifier(connections, _none_under_way) as bell:
        for _ in range(3):
            waiting = asyncio.create_task(bell.wait("one", after="0-0", seconds=LONG))
            await _until_blocked(client)
            await client.client_kill_filter(_type="normal", skipme=True)
            assert await waiting is True, "who waits looks for itself"
        waiting = asyncio.create_task(bell.wait("one", after="0-0", seconds=LONG))
        await client.xadd("one", {"k": "v"})
        assert await waiting


async def test_a_proxy_without_a_server_is_not_asked_in_a_busy_loop(
    own_redis: ValkeyServer, proxy: FaultProxy
) -> None:
    """It accepts connections and ends them. On a new one nothing is asked before ``CLIENT ID``."""
    settings = short_settings(
        own_redis,
        redis_host=proxy.host,
        redis_port=proxy.port,
        redis_stream_db=0,
        redis_rescue_seconds=0,
    )
    connections = RedisConnections(settings)
    proxy.refuse()
    try:
        async with AppendNotifier(connections, _none_under_way) as bell:
            for _ in range(3):
                assert await bell.wait("one", after="0-0", seconds=2), "who waits looks for itself"
        assert proxy.connections < 10
    finally:
        await connections.close()


@pytest.mark.parametrize("forbidden", ["-client|unblock", "-client|id"])
async def test_it_works_for_users_who_may_not_unblock_clients(
    own_redis: ValkeyServer, client: Redis, forbidden: str
) -> None:
    await client.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", forbidden)
    settings = short_settings(own_redis, redis_username="weak", redis_password="pw")
    connections = RedisConnections(settings)
    try:
        async with AppendNotifier(connections, _none_under_way) as bell:
            first = asyncio.create_task(bell.wait("first", after="0-0", seconds=LONG))
            await _until_blocked(client)
            await client.xadd("second", {"k": "v"})
            assert await bell.wait("second", after="0-0", seconds=LONG)
            await client.xadd("first", {"k": "v"})
            assert await first
    finally:
        await connections.close()
        await client.execute_command("ACL", "DELUSER", "weak")


@pytest.mark.quiet
async def test_records_are_read_within_milliseconds_when_idle(near: RedisTransport) -> None:
    delays, after = [], None
    for i in range(30):
        waiting = asyncio.create_task(_next(near, 0, after))
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        await near.publish([message(str(i), partition=0, of=near)])
        (record,) = await waiting
        delays.append(time.perf_counter() - began)
        after = record.offset
    assert sorted(delays)[15] < 0.05, "two fsyncs and a few round trips, on a loaded machine"


async def test_a_reader_that_has_read_everything_does_not_read_before_it_waits(
    near: RedisTransport, client: Redis, settings: TransportSettings
) -> None:
    """And it needs no read at all for what its own process appends."""

    async def reads() -> int:
        stats = await client.info("commandstats")
        return int(stats["cmdstat_fcall"]["calls"])

    async with RedisTransport.from_settings(settings) as other:
        after = None
        for writer, most in ((near, 1), (other, 2)):  # the append, and the read
            for n in range(20):
                waiting = asyncio.create_task(_next(near, 1, after))
                await _until_blocked(client)
                before = await reads()
                await writer.publish([message(f"{n}", partition=1, of=near)])
                (record,) = await waiting
                after = record.offset
                if n:
                    assert await reads() - before <= most


async def test_a_wait_that_was_cut_off_after_it_was_rung_passes_over_nothing(
    near: RedisTransport, client: Redis
) -> None:
    after = None
    for n in range(20):
        waiting = asyncio.create_task(_next(near, 1, after))
        await _until_blocked(client)
        await near.publish([message(f"{n}", partition=1, of=near)])
        for _ in range(n):  # at each point of the way from the ring to the record
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if waiting.cancelled():
            (record,) = await _next(near, 1, after)
        else:
            (record,) = waiting.result()
        assert contents([record]) == [f"{n}"]
        after = record.offset


async def test_a_stream_of_appends_rings_two_hundred_times_a_second_at_most(
    connections: RedisConnections, client: Redis
) -> None:
    async with AppendNotifier(connections, _none_under_way) as bell:
        assert not await bell.wait("busy", after="0-0", seconds=0.1)
        await client.config_resetstat()
        began, last = time.monotonic(), "0-0"
        for i in range(300):
            last = (await client.xadd("busy", {"k": i})).decode()
            assert await bell.wait("busy", after=last, seconds=0.001) in (True, False)
        seconds = time.monotonic() - began
        reads = (await client.info("commandstats"))["cmdstat_xread"]["calls"]
        assert reads <= seconds / 0.005 + 2


async def test_many_streams_are_read_less_often_while_only_this_process_appends(
    connections: RedisConnections, client: Redis
) -> None:
    """A read costs the server something for each stream, and tells of nothing new."""
    streams = [f"own{number}" for number in range(400)]
    async with AppendNotifier(connections, _none_under_way) as bell:
        own = [asyncio.create_task(bell.wait(it, after="0-0", seconds=LONG)) for it in streams]
        foreign = asyncio.create_task(bell.wait("foreign", after="0-0", seconds=LONG))
        await _until_blocked(client)
        await client.config_resetstat()
        began, number = time.monotonic(), 0
        while time.monotonic() - began < 1.5:
            # The read that is woken finds nothing that was not handed over.
            bell.appended(streams[0], before=f"{number}-0", last=f"{number + 1}-0")
            number += 1
            await client.xadd(streams[0], {"k": "v"}, id=f"{number}-0")
        seconds = time.monotonic() - began
        reads = (await client.info("commandstats"))["cmdstat_xread"]["calls"]
        assert reads <= seconds / 0.1 + 6, "after some, each of which waited twice as long"
        await client.xadd("foreign", {"k": "v"})
        assert await foreign
        assert await own[0]


async def test_a_record_whose_append_has_no_answer_yet_does_not_ring(
    connections: RedisConnections, client: Redis
) -> None:
    """The answer hands it to its reader, which has nothing to read then."""
    answered = asyncio.Event()

    async def are_answered(seconds: float) -> None:
        async with asyncio.timeout(LONG):
            await answered.wait()

    async with (
        AppendNotifier(connections, are_answered) as bell,
        AppendNotifier(connections, _none_under_way) as other,
    ):
        own = asyncio.create_task(bell.wait("own", after="0-0", seconds=LONG))
        foreign = asyncio.create_task(bell.wait("foreign", after="0-0", seconds=LONG))
        await _until_blocked(client)
        await client.xadd("own", {"k": "v"}, id="1-0")
        for number in range(3):  # each takes longer than the ring of "own" would
            assert await other.wait(f"other{number}", after="0-0", seconds=0.02) is False
        assert not own.done()
        bell.appended("own", before="0-0", last="1-0")
        assert await own
        own = asyncio.create_task(bell.wait("own", after="1-0", seconds=LONG))
        answered.set()
        await client.xadd("foreign", {"k": "v"})
        assert await foreign
        assert not own.done(), "the entry was handed over"
        own.cancel()


async def test_an_append_that_gets_no_answer_delays_a_ring_by_a_moment(
    connections: RedisConnections, client: Redis
) -> None:
    appends = OwnAppends(lambda: 0)
    appends.begin()
    async with AppendNotifier(connections, appends.answered) as bell:
        foreign = asyncio.create_task(bell.wait("foreign", after="0-0", seconds=LONG))
        await _until_blocked(client)
        await client.xadd("foreign", {"k": "v"})
        assert await foreign
