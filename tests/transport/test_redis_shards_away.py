"""A cluster of three shards: servers die, hang or are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import pytest

from compose.local.binaries import find_redis
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_shards import (
    PARTITIONS,
    Traffic,
    assert_all_stands,
    is_replaced,
    opened,
    settings_of,
)
from tests.transport.settler import Settler
from transport.conformance.envelopes import message
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.errors import (
    PartlyUnavailable,
    TransportError,
)
from transport.redis import RedisTransport
from transport.redis.client.connections import RedisConnections
from transport.redis.client.pipelines import Pipelines
from transport.redis.cluster import map as cluster_map
from transport.redis.cluster.slot_map import SlotMap
from transport.redis.connection.connection import Address


async def test_a_primary_is_killed_under_load_and_its_replica_takes_over(
    shards: RedisCluster,
) -> None:
    async with opened(shards, redis_wait_replicas=1) as transport:
        traffic = Traffic(transport)
        async with traffic.running():
            await traffic.goes_on()
            victim = await shards.primary_of("msg:stream:0")
            others = [n for n in range(12) if await _is_elsewhere(shards, n, victim)]
            await victim.kill()
            await eventually(lambda: traffic.refused)
            before = {n: len(traffic.acknowledged[n]) for n in others}
            assert others
            await eventually(lambda: all(len(traffic.acknowledged[n]) > before[n] for n in others))
            await victim.start()  # or nobody could confirm what the promoted one takes
            await traffic.goes_on()
        assert_all_stands(traffic, await traffic.log(), once=False)


async def _is_elsewhere(shards: RedisCluster, conversation: int, victim: ValkeyServer) -> bool:
    return await shards.primary_of(f"msg:stream:{conversation % PARTITIONS}") is not victim


async def test_a_shard_that_is_away_keeps_no_other_from_being_read_and_published(
    shards: RedisCluster,
) -> None:
    async with opened(shards) as transport:
        on = {p: await shards.primary_of(f"msg:stream:{p}") for p in range(PARTITIONS)}
        victim = on[0]
        healthy = [p for p in on if on[p] is not victim]
        worker = Settler(transport)
        async with worker.working():
            gone = [victim, *await shards.replicas_of(victim)]
            for server in gone:
                await server.kill()
            with pytest.raises(PartlyUnavailable, match=f"the others do: .*:{victim.port} "):
                await transport.ping()
            await append_everywhere(transport, healthy)

            async def are_settled() -> bool:
                with suppress(TransportError):
                    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
                    return all(progress[p].floor and progress[p].lag == 0 for p in healthy)
                return False

            await eventually(are_settled)
            for server in gone:
                await server.start()
            await shards.is_whole()


async def append_everywhere(transport: RedisTransport, partitions: Sequence[int]) -> None:
    outcomes = await transport.publish(
        [message("m", partition=p, of=transport) for p in partitions]
    )
    assert all(isinstance(it, Appended) for it in outcomes), outcomes


async def test_a_call_waits_for_no_other_server_that_hangs(shards: RedisCluster) -> None:
    victim = await shards.primary_of("msg:stream:0")
    streams = [f"msg:stream:{p}" for p in range(PARTITIONS)]
    well = [it for it in streams if await shards.primary_of(it) is not victim]
    connections = RedisConnections(settings_of(shards, redis_timeout_ms=20_000))
    await connections.look_for_cluster()
    calls = Pipelines(connections)
    await asyncio.gather(*(calls.exchange([("EXISTS", it)]) for it in streams))
    await victim.suspend()
    try:
        hung = asyncio.ensure_future(calls.exchange([("EXISTS", streams[0])]))
        await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.gather(*(calls.exchange([("EXISTS", it)]) for it in well))
        assert not hung.done()
    finally:
        await victim.resume()
    await hung
    await connections.close()


async def test_a_primary_that_is_cut_off_from_the_others_is_left(shards: RedisCluster) -> None:
    """It answers all calls at once, with CLUSTERDOWN, while its replica is promoted."""
    if find_redis().product != "valkey":
        pytest.skip("Redis has no command that cuts a server off from its cluster")
    victim = await shards.primary_of("msg:stream:0")
    url = f"redis://{victim.host}:{victim.port},{shards.addresses}/0"
    async with opened(shards, redis_url=url) as transport:
        await transport.publish([message("first", partition=0, of=transport)])
        await shards.run(victim, "DEBUG", "DROP-CLUSTER-PACKET-FILTER", -2)
        try:
            await is_replaced(shards, victim)

            async def is_taken() -> bool:
                (outcome,) = await transport.publish([message("m", partition=0, of=transport)])
                return isinstance(outcome, Appended)

            await eventually(lambda: _is_down(shards, victim))
            await eventually(is_taken)
        finally:
            await shards.run(victim, "DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1)


async def _is_down(shards: RedisCluster, server: ValkeyServer) -> bool:
    return "cluster_state:fail" in await shards.run(server, "CLUSTER", "INFO")


async def test_a_server_that_hangs_does_not_delay_the_look_for_a_promoted_one(
    shards: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait 2.5 s for what this process lost: by then it has to know the new server."""
    looks: list[float] = []
    ask = cluster_map.ask_for_slots

    async def ask_for_slots(addresses: Sequence[Address]) -> SlotMap | None:
        looks.append(asyncio.get_running_loop().time())
        return await ask(addresses)

    async with opened(shards, redis_timeout_ms=500) as transport:
        victim = await shards.primary_of("msg:stream:0")
        hung = [victim, *await shards.replicas_of(victim)]
        for server in hung:
            await server.suspend()
        try:
            await transport.publish([message("lost", partition=0, of=transport)])
            monkeypatch.setattr(cluster_map, "ask_for_slots", ask_for_slots)
            await eventually(lambda: len(looks) > 6)
        finally:
            for server in hung:
                await server.resume()
    assert min(after - before for before, after in pairwise(looks[4:])) < 2.0


async def test_a_process_that_only_looks_at_its_health_finds_a_promoted_server(
    shards: RedisCluster,
) -> None:
    """Its probes give up on a server that hangs long before a call would."""
    async with opened(shards, redis_timeout_ms=60_000) as transport:
        await transport.ping()
        victim = await shards.primary_of("msg:stream:0")
        await victim.suspend()
        try:
            await is_replaced(shards, victim)

            async def is_well() -> bool:
                with suppress(TransportError):
                    await transport.ping()
                    return True
                return False

            await eventually(is_well)
        finally:
            await victim.resume()
