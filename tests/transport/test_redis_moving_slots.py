"""A cluster of three shards whose slots move, whole or halfway, while messages come and go."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest
from redis.crc import key_slot

from compose.local.server import ServerError
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.support.requirements import absent
from tests.transport.redis_shards import (
    PARTITIONS,
    Traffic,
    another,
    assert_all_stands,
    is_replaced,
    message_id_of,
    move_slots,
    offset_of,
    opened,
    reading,
)
from transport.conformance.envelopes import message
from transport.contract import Appended, Topic
from transport.errors import (
    TransportError,
    TransportUnavailable,
)

SLOTTED = ("msg:stream", *(f"msg:stream:{p}" for p in range(PARTITIONS)))


@pytest.mark.parametrize("whole", [False, True], ids=["key by key", "whole"])
@pytest.mark.parametrize("replicas", [0, 1])
async def test_slots_move_under_load_and_nothing_is_lost_doubled_or_reordered(
    shards: RedisCluster, whole: bool, replicas: int
) -> None:
    async with opened(shards, redis_wait_replicas=replicas) as transport:
        traffic = Traffic(transport)
        async with traffic.running():
            await traffic.goes_on()
            await move_slots(shards, traffic, SLOTTED[:3], whole=whole)
        assert_all_stands(traffic, await traffic.log(), once=True)


@pytest.mark.parametrize("whole", [False, True], ids=["key by key", "whole"])
async def test_a_shard_is_added_and_removed_under_load(tmp_path: Path, whole: bool) -> None:
    """The new one lacks our functions, which are no part of a slot."""
    cluster = RedisCluster(tmp_path)
    try:
        await cluster.start()
        move = cluster.move_whole if whole else cluster.move
        async with opened(cluster) as transport:
            traffic = Traffic(transport)
            async with traffic.running():
                await traffic.goes_on()
                new = await cluster.add()
                slots = {
                    key_slot(name.encode()): await cluster.primary_of(name) for name in SLOTTED
                }
                for slot in slots:
                    await move(slot, new)
                    await traffic.goes_on()
                for slot, old in slots.items():
                    await move(slot, old)
                await cluster.remove(new)
                await traffic.goes_on()
            assert_all_stands(traffic, await traffic.log(), once=True)
    finally:
        await cluster.stop()


async def test_another_database_than_the_first_is_used_where_a_cluster_has_it(
    tmp_path: Path,
) -> None:
    """Valkey has them from 9.0 on."""
    cluster = RedisCluster(tmp_path, cluster_databases="2")
    try:
        try:
            await cluster.start()
        except ServerError:
            absent(f"{cluster.binary().label} does not start with cluster-databases")
        async with opened(cluster, redis_url=f"redis://{cluster.addresses}/1") as transport:
            traffic = Traffic(transport)
            async with traffic.running():
                await traffic.goes_on()
                await move_slots(cluster, traffic, SLOTTED[1:3], whole=True)
            assert_all_stands(traffic, await traffic.log(), once=True)
        for server in cluster.servers:
            keyspace = str(await cluster.run(server, "INFO", "keyspace"))
            assert "db1:" in keyspace
            assert "db0:" not in keyspace
    finally:
        await cluster.stop()


async def test_an_append_that_waits_for_its_slot_holds_up_no_ping(shards: RedisCluster) -> None:
    """A ping that queued with the appends to all slots would find the log out of reach."""
    slot, stream = key_slot(b"msg:stream:0"), "msg:stream:0"
    async with opened(shards) as transport:
        await transport.publish([message("first", partition=0, of=transport)])
        to = await another(shards, await shards.primary_of(stream))
        source = await shards.begin_move(slot, to)
        await shards.run(source, "MIGRATE", to.host, to.port, stream, 0, 5000)
        stuck = [message("stuck", partition=0, of=transport)]
        waiting, pings = asyncio.create_task(transport.publish(stuck)), 0
        while pings < 20 and not waiting.done():
            await transport.ping()
            pings += 1
        assert not waiting.done(), f"{pings} pings until the append gave up"
        await shards.move_keys(slot, source, to)
        await shards.end_move(slot, source, to)
        (outcome,) = await waiting
        assert isinstance(outcome, Appended)


async def test_a_move_that_stops_halfway_holds_up_nobody_else(shards: RedisCluster) -> None:
    """The slot's stream is on one server and its side keys on the other: TRYAGAIN to each call."""
    slot, stream = key_slot(b"msg:stream:0"), "msg:stream:0"
    async with opened(shards) as transport:
        await transport.publish([message("first", partition=0, of=transport)])
        to = await another(shards, await shards.primary_of(stream))
        source = await shards.begin_move(slot, to)
        await shards.run(source, "MIGRATE", to.host, to.port, stream, 0, 5000)
        stuck = message("stuck", partition=0, of=transport)
        free = [message(f"free {n}", partition=n, of=transport) for n in range(1, PARTITIONS)]
        outcome, *others = await transport.publish([stuck, *free])
        assert isinstance(outcome, TransportError)
        assert all(isinstance(other, Appended) for other in others)
        took: list[float] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        for n in range(5):
            outcome, *others = await transport.publish(
                [stuck, *(message(f"{n}", partition=it, of=transport) for it in (1, 2, 3))]
            )
            assert isinstance(outcome, TransportError)
            assert all(isinstance(other, Appended) for other in others)
        assert loop.time() - began < 5, "a second each, as the first time"
        got: dict[str, float] = {}
        async with reading(transport, got):  # it goes on asking for what is there
            await eventually(lambda: len(got) >= PARTITIONS - 1)
            for n in range(5):
                with suppress(TransportError):  # calls of one key of the slot succeed meanwhile
                    await transport.ping()
                began = loop.time()
                outcome, other = await transport.publish(
                    [stuck, envelope := message(f"read {n}", partition=1, of=transport)]
                )
                assert isinstance(outcome, TransportError)
                assert isinstance(other, Appended)
                await eventually(lambda: envelope.message_id in got)
                took.append(loop.time() - began)
            assert sorted(took)[2] < 1, "a stuck slot holds up each tick, or each read"
        while await shards.move_keys(slot, source, to):
            pass
        await shards.end_move(slot, source, to)

        async def is_taken() -> bool:
            (outcome,) = await transport.publish([stuck])
            return isinstance(outcome, Appended)

        await eventually(is_taken)
        assert len(await transport.read(Topic.MESSAGES, 0)) == 2


@pytest.mark.parametrize("moves_accounts", [True, False])
async def test_a_call_that_lacks_the_accounts_does_not_begin(
    shards: RedisCluster, moves_accounts: bool
) -> None:
    """What the accounts say is needed for a repeat whose record is in the log no more."""
    stream, accounts = "msg:stream:0", "{msg:stream:0}:accounts:persistence-workers"
    memories = [f"{{{stream}}}:memory:{n}" for n in (0, 1)]
    slot = key_slot(stream.encode())
    async with opened(shards) as transport:
        old, new, more = (message(it, partition=0, of=transport) for it in ("old", "new", "more"))
        appended, _ = await transport.publish([old, more])
        for memory in memories:  # a call whose keys are not all there is refused in any case
            await shards.run_at(memory, "HSETNX", memory, "seconds", 300)
            await shards.run_at(memory, "EXPIRE", memory, 100)
        await shards.run_at(stream, "XDEL", stream, offset_of(appended))
        to = await another(shards, await shards.primary_of(stream))
        source = await shards.begin_move(slot, to)
        moved = [accounts] if moves_accounts else [stream, *memories]
        await shards.run(source, "MIGRATE", to.host, to.port, "", 0, 5000, "KEYS", *moved)
        outcomes = await transport.publish([new, old])
        assert [type(it) for it in outcomes] == [TransportUnavailable] * 2, outcomes
        with pytest.raises(TransportUnavailable):
            await transport.recall([old.message_id])
        while await shards.move_keys(slot, source, to):
            pass
        await shards.end_move(slot, source, to)

        async def is_taken() -> bool:
            return all(isinstance(it, Appended) for it in await transport.publish([new]))

        await eventually(is_taken)
        assert len(await transport.read(Topic.MESSAGES, 0)) == 2


async def test_what_is_sent_again_is_not_overtaken(shards: RedisCluster) -> None:
    slot, stream = key_slot(b"msg:stream:0"), "msg:stream:0"
    async with opened(shards) as transport:
        (first,) = await transport.publish([message("first", partition=0, of=transport)])
        assert isinstance(first, Appended)
        to = await another(shards, await shards.primary_of(stream))
        source = await shards.begin_move(slot, to)
        await shards.run(source, "MIGRATE", to.host, to.port, stream, 0, 5000)

        async def is_refused() -> bool:
            told = await shards.run(source, "INFO", "errorstats")
            return f"TRYAGAIN:count={already}" not in told and "TRYAGAIN" in told

        told = re.search(r"TRYAGAIN:count=(\d+)", await shards.run(source, "INFO", "errorstats"))
        already = told[1] if told else "0"
        sent = []
        for n in range(5):
            envelope = message(f"m{n}", partition=0, of=transport)
            sent.append((envelope, asyncio.create_task(transport.publish([envelope]))))
            await eventually(is_refused)  # so that the others find the first being sent again
        while await shards.move_keys(slot, source, to):
            pass
        await shards.end_move(slot, source, to)
        for _, task in sent:
            assert isinstance((await task)[0], Appended)
        records = await transport.read(Topic.MESSAGES, 0, after=first.offset)
        assert [message_id_of(record) for record in records] == [it.message_id for it, _ in sent]


async def test_a_slot_on_its_way_leaves_others_confirmed(shards: RedisCluster) -> None:
    slot, stream = key_slot(b"msg:stream:0"), "msg:stream:0"
    async with opened(shards, redis_wait_replicas=1) as transport:
        source = await shards.primary_of(stream)
        beside = [
            p for p in range(1, PARTITIONS) if await shards.primary_of(f"msg:stream:{p}") is source
        ]
        assert beside
        await transport.publish([message("first", partition=0, of=transport)])
        to = await another(shards, source)
        await shards.begin_move(slot, to)
        gone = (stream, "{msg:stream:0}:probe")  # also the write that goes before WAIT
        await shards.run(source, "MIGRATE", to.host, to.port, "", 0, 5000, "KEYS", *gone)
        for n in range(2):
            outcome, other = await transport.publish(
                [message(f"{n}", partition=p, of=transport) for p in (0, beside[0])]
            )
            assert isinstance(outcome, TransportError)
            assert isinstance(other, Appended)
        while await shards.move_keys(slot, source, to):
            pass
        await shards.end_move(slot, source, to)


@pytest.mark.chaos
async def test_slots_move_and_primaries_die_again_and_again(shards: RedisCluster) -> None:
    async with opened(shards, redis_wait_replicas=1) as transport:
        traffic = Traffic(transport)
        async with traffic.running():
            await traffic.goes_on()
            for turn in range(12):
                if turn % 3 == 0:
                    await move_slots(shards, traffic, SLOTTED)
                victim = await shards.primary_of(f"msg:stream:{turn % PARTITIONS}")
                if turn % 2:
                    await victim.kill()
                    await is_replaced(shards, victim)
                    await victim.start()
                else:
                    await victim.suspend()
                    await is_replaced(shards, victim)
                    await victim.resume()
                await shards.is_whole()
                await traffic.goes_on()
        assert_all_stands(traffic, await traffic.log(), once=False)
