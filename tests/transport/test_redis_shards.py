"""A cluster of three shards: the places of its partitions, and the facts about its servers.

Slots that move: test_redis_moving_slots.py. Servers that go away: test_redis_shards_away.py.
"""

from __future__ import annotations

import asyncio
import re

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_library import OTHER_FUNCTION, answers_append, replace_library
from tests.transport.redis_backend import short_settings
from tests.transport.redis_shards import (
    PARTITIONS,
    another,
    offset_of,
    opened,
    settings_of,
)
from transport.conformance.envelopes import message
from transport.contract import WORKER_GROUP, Appended, Record, Topic
from transport.errors import (
    AppendUnknown,
    ConfigurationError,
    TransportUnavailable,
)
from transport.redis import RedisTransport


async def test_each_partition_is_on_the_server_that_has_its_slot(shards: RedisCluster) -> None:
    async with opened(shards) as transport:
        envelopes = [
            message(f"m{n}", partition=n % PARTITIONS, of=transport) for n in range(3 * PARTITIONS)
        ]
        outcomes = await transport.publish(envelopes)
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        again = await transport.publish(envelopes)
        assert [offset_of(it) for it in again] == [offset_of(it) for it in outcomes]
        for primary in await shards.primaries():
            assert await shards.run(primary, "DBSIZE") > 0


async def test_idle_workers_are_woken_and_do_not_poll(shards: RedisCluster) -> None:
    async def reads() -> int:
        count = 0
        for server in await shards.primaries():
            told = await shards.run(server, "INFO", "commandstats")
            count += sum(int(it) for it in re.findall(r"xrange:calls=(\d+)", told))
        return count

    async def read(partition: int, after: str | None) -> Record:
        async with asyncio.timeout(5):
            (record,) = await transport.read(Topic.MESSAGES, partition, after=after, wait=60.0)
            return record

    async with opened(shards) as transport, opened(shards) as other:
        last: dict[int, str] = {}
        for _ in range(2):
            for partition in range(PARTITIONS):
                reader = asyncio.create_task(read(partition, last.get(partition)))
                await asyncio.sleep(0.05)
                await other.publish([message("wake", partition=partition, of=other)])
                last[partition] = (await reader).offset
        idle = [
            asyncio.create_task(transport.read(Topic.MESSAGES, p, after=last[p], wait=60.0))
            for p in last
        ]
        await asyncio.sleep(0.5)
        before = await reads()
        await asyncio.sleep(1.0)
        assert await reads() == before
        for task in idle:
            task.cancel()
        await asyncio.wait(idle)


async def test_what_is_full_or_not_durable_is_told_of_each_shard(shards: RedisCluster) -> None:
    async with opened(shards) as transport:
        assert (await transport.durability()).power is True
        one = await shards.primary_of("msg:stream:3")
        await shards.run(one, "CONFIG", "SET", "appendfsync", "everysec")
        try:
            assert (await transport.durability()).power is False
        finally:
            await shards.run(one, "CONFIG", "SET", "appendfsync", "always")
        facts = await transport.server_facts()
        assert facts.role is not None
        assert facts.role.startswith("cluster of 3 primaries: 127.0.0.1:")
        assert facts.role.count("1 replicas") == 3
        await shards.run(one, "CONFIG", "SET", "maxmemory", "1mb")
        try:
            outcomes = await transport.publish(
                [message(f"m{p}", partition=p, of=transport) for p in range(PARTITIONS)]
            )
            elsewhere = [await shards.primary_of(f"msg:stream:{p}") for p in range(PARTITIONS)]
            assert [isinstance(it, Appended) for it in outcomes] == [
                it is not one for it in elsewhere
            ]
            with pytest.raises(TransportUnavailable, match="maxmemory"):
                await transport.ping()
            await shards.run(one, "FUNCTION", "FLUSH")  # as a shard that is new
            (outcome,) = await transport.publish([message("new", partition=3, of=transport)])
            assert "maxmemory" in str(outcome)
        finally:
            await shards.run(one, "CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize("code", [OTHER_FUNCTION, answers_append("1")])
async def test_a_library_that_was_replaced_is_loaded_again_on_each_server(
    shards: RedisCluster, code: str
) -> None:
    async with opened(shards) as transport:
        for server in await shards.primaries():
            async with Redis(host=server.host, port=server.port) as client:
                await replace_library(client, code)
        envelopes = [message(f"m{p}", partition=p, of=transport) for p in range(PARTITIONS)]
        outcomes = await transport.publish(envelopes)
        if code != OTHER_FUNCTION:
            assert all(isinstance(outcome, AppendUnknown) for outcome in outcomes)
            await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            outcomes = await transport.publish(envelopes)
        assert all(isinstance(outcome, Appended) for outcome in outcomes)


async def test_any_server_of_the_cluster_leads_to_all_of_it(shards: RedisCluster) -> None:
    primaries = await shards.primaries()
    replica = next(server for server in shards.servers if server not in primaries)
    for url in (
        f"redis://{replica.host}:{replica.port}/0",
        f"redis://127.0.0.1:1,{replica.host}:{replica.port}/0",
    ):
        transport = RedisTransport.from_settings(settings_of(shards, redis_url=url))
        assert not await transport.exists()
        async with transport:
            await transport.publish([message("m", partition=0, of=transport)])
            assert await transport.exists()
            holdings = await transport.remove(dry_run=True)
            assert sum(it.kind == "stream" for it in holdings) == PARTITIONS + 1
            await transport.remove()
        assert not await transport.exists()


async def test_servers_that_have_no_host_name_are_found(shards: RedisCluster) -> None:
    for server in shards.servers:
        await shards.run(server, "CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    try:
        async with opened(shards) as transport:
            stream = "msg:stream:0"
            await shards.move(
                key_slot(stream.encode()), await another(shards, await shards.primary_of(stream))
            )
            outcomes = await transport.publish(
                [message(f"m{p}", partition=p, of=transport) for p in range(PARTITIONS)]
            )
            assert all(isinstance(it, Appended) for it in outcomes), outcomes
    finally:
        for server in shards.servers:
            await shards.run(server, "CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


@pytest.mark.parametrize("in_use", [False, True])
async def test_a_server_that_lacks_the_user_is_told_of(shards: RedisCluster, in_use: bool) -> None:
    """Also if the server hangs up on a call, and only the next attempt is refused."""
    for server in shards.servers:
        rights = ("on", ">secret", "allkeys", "allcommands")
        await shards.run(server, "ACL", "SETUSER", "crossfade", *rights)
    named = f"redis://crossfade:secret@{shards.addresses}/0"
    async with opened(shards, redis_url=named, redis_timeout_ms=30_000) as transport:
        lacks = await shards.primary_of("msg:stream:0")

        async def publish() -> str:
            (outcome,) = await transport.publish([message("m", partition=0, of=transport)])
            return str(outcome)

        async def waits() -> bool:
            return "flags=b" in str(await shards.run(lacks, "CLIENT", "LIST"))

        if in_use:
            await shards.run(lacks, "CLIENT", "PAUSE", 60_000, "WRITE")
            under_way = asyncio.create_task(publish())
            await eventually(waits)
        # Its replica may be promoted on a busy machine.
        for server in (*await shards.replicas_of(lacks), lacks):
            await shards.run(server, "ACL", "DELUSER", "crossfade")  # also hangs up on it
        if in_use:
            await shards.run(lacks, "CLIENT", "UNPAUSE")
            assert "the server closed the connection" in await under_way

        async def is_told() -> bool:
            told = await publish()
            assert "refused our credentials" in told, told
            return True

        await eventually(is_told)
    for server in shards.servers:
        await shards.run(server, "ACL", "DELUSER", "crossfade")


async def test_several_servers_that_are_no_cluster_are_refused(own_redis: ValkeyServer) -> None:
    url = f"redis://{own_redis.host}:{own_redis.port},127.0.0.1:1/0"
    with pytest.raises(ConfigurationError, match="not one of a cluster"):
        async with RedisTransport.from_settings(short_settings(own_redis, redis_url=url)):
            pass
