"""A cluster of three shards: the transport's suite, and what happens to slots and servers.

Slots are moved, and a primary is killed, while messages are appended and read.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import pytest_asyncio
from redis.crc import key_slot

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_backend import short_settings
from transport.conformance.member import message
from transport.contract import (
    WORKER_GROUP,
    Appended,
    Claim,
    Envelope,
    Outcome,
    Record,
    Remembered,
    Topic,
)
from transport.errors import (
    ConfigurationError,
    PartitionLost,
    PartlyUnavailable,
    TransportError,
    TransportUnavailable,
)
from transport.redis import RedisTransport
from transport.redis.connections import RedisConnections
from transport.redis.pipelines import Pipelines
from transport.settings import TransportSettings

_PARTITIONS = 6


@pytest_asyncio.fixture(scope="module")
async def _shards(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster(
        tmp_path_factory.mktemp("shards"), replicas=1, enable_debug_command="yes"
    )
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


@pytest_asyncio.fixture
async def shards(_shards: RedisCluster) -> RedisCluster:
    """Three primaries, three replicas; empty."""
    await _shards.begin_anew()
    return _shards


def _settings(cluster: RedisCluster, **changes: Any) -> TransportSettings:
    few: dict[str, Any] = {"redis_url": f"redis://{cluster.addresses}/0"}
    return short_settings(None, **{**few, "stream_partitions": _PARTITIONS, **changes})


class _Traffic:
    """Conversations, each of which sends its next message after the last one's acknowledgement."""

    def __init__(self, transport: RedisTransport) -> None:
        self._transport = transport
        self._ended = asyncio.Event()
        self.acknowledged: dict[int, list[str]] = defaultdict(list)
        self.refused = 0
        self.why: object = None
        self._senders: dict[str, int] = {}
        self.read: dict[int, list[str]] = defaultdict(list)

    @asynccontextmanager
    async def running(self, conversations: int = 12) -> AsyncIterator[None]:
        """Send and read, until the block ends and all that was acknowledged is read."""
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self._send(n)) for n in range(conversations)]
            reader = group.create_task(self._read_all())
            yield
            self._ended.set()
            await asyncio.gather(*senders)
            await eventually(self._all_read, 20.0)
            reader.cancel()

    def told(self) -> int:
        """Return how many messages are acknowledged."""
        return sum(map(len, self.acknowledged.values()))

    async def goes_on(self, more: int = 36) -> None:
        """Return when each conversation has had some more acknowledged."""
        before = {n: len(some) for n, some in self.acknowledged.items()}
        each = max(1, more // max(1, len(before)))

        def has_gone_on() -> bool:
            now = self.acknowledged
            return len(now) > 0 and all(
                len(some) >= before.get(n, 0) + each for n, some in now.items()
            )

        await eventually(has_gone_on, 20.0)

    def in_order(self, ids: Sequence[str], conversation: int) -> list[str]:
        """Return the messages of a conversation among ``ids``, each where it stands first."""
        return list(dict.fromkeys(self.of(ids, conversation)))

    def of(self, ids: Sequence[str], conversation: int) -> list[str]:
        """Return the messages of a conversation among ``ids``."""
        return [it for it in ids if self._senders[it] == conversation]

    async def log(self) -> dict[int, list[str]]:
        """Return the ids of all records that are in the log, by partition."""
        found: dict[int, list[str]] = {}
        for partition in range(_PARTITIONS):
            records = await self._transport.read(Topic.MESSAGES, partition, limit=100_000)
            found[partition] = [_id(record) for record in records]
        return found

    async def _send(self, conversation: int) -> None:
        partition = conversation % _PARTITIONS
        number = 0
        while not self._ended.is_set():
            envelope = message(f"c{conversation}-{number}", partition=partition, of=self._transport)
            self._senders[envelope.message_id] = conversation
            while not await self._publish(envelope):
                self.refused += 1
                await asyncio.sleep(0.02)
            self.acknowledged[conversation].append(envelope.message_id)
            number += 1

    async def _publish(self, envelope: Envelope) -> bool:
        (outcome,) = await self._transport.publish([envelope])
        if not isinstance(outcome, Appended | Remembered):
            self.why = outcome
        return isinstance(outcome, Appended | Remembered)

    async def _read_all(self) -> None:
        consumer = self._transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member="reader")
        async with consumer, asyncio.TaskGroup() as group:
            async for claim in consumer.claims():
                group.create_task(self._read(claim))

    async def _read(self, claim: Claim) -> None:
        try:
            async with claim:
                while True:
                    try:
                        records = await claim.next(max_records=100, max_wait=5.0)
                        self.read[claim.partition] += [_id(record) for record in records]
                        if records:
                            await claim.ack(records[-1].offset)
                    except PartitionLost:
                        return
                    except TransportError:
                        await asyncio.sleep(0.05)
                        await claim.nack()
        except TransportError:
            return

    def _all_read(self) -> bool:
        return all(
            set(some) <= set(self.read[conversation % _PARTITIONS])
            for conversation, some in self.acknowledged.items()
        )


def _id(record: Record) -> str:
    return record.headers["messageId"].decode()


def _offset(outcome: Outcome) -> str:
    assert isinstance(outcome, Appended | Remembered)
    return outcome.offset


@asynccontextmanager
async def _opened(cluster: RedisCluster, **changes: Any) -> AsyncIterator[RedisTransport]:
    async with RedisTransport.from_settings(_settings(cluster, **changes)) as transport:
        yield transport


async def _other(cluster: RedisCluster, server: ValkeyServer) -> ValkeyServer:
    return next(it for it in await cluster.primaries() if it is not server)


async def test_each_partition_is_on_the_server_that_has_its_slot(shards: RedisCluster) -> None:
    async with _opened(shards) as transport:
        envelopes = [
            message(f"m{n}", partition=n % _PARTITIONS, of=transport)
            for n in range(3 * _PARTITIONS)
        ]
        outcomes = await transport.publish(envelopes)
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        again = await transport.publish(envelopes)
        assert [_offset(it) for it in again] == [_offset(it) for it in outcomes]
        for primary in await shards.primaries():
            assert await shards.run(primary, "DBSIZE") > 0


def _stands(traffic: _Traffic, log: dict[int, list[str]], *, once: bool) -> None:
    """See that all that was acknowledged is in the log, and was read, in order."""
    for conversation, acknowledged in traffic.acknowledged.items():
        partition = conversation % _PARTITIONS
        stands = traffic.of(log[partition], conversation)
        assert (stands if once else list(dict.fromkeys(stands))) == acknowledged
        read = traffic.of(traffic.read[partition], conversation)
        assert list(dict.fromkeys(read)) == acknowledged


_SLOTTED = ("msg:stream", *(f"msg:stream:{p}" for p in range(_PARTITIONS)))


async def _move(shards: RedisCluster, traffic: _Traffic, names: Sequence[str]) -> None:
    for name in names:
        source = await shards.primary_of(name)
        await shards.move(key_slot(name.encode()), await _other(shards, source))
        await traffic.goes_on()


async def test_slots_move_under_load_and_nothing_is_lost_doubled_or_reordered(
    shards: RedisCluster,
) -> None:
    async with _opened(shards) as transport:
        traffic = _Traffic(transport)
        async with traffic.running():
            await traffic.goes_on()
            await _move(shards, traffic, _SLOTTED[:3])
        _stands(traffic, await traffic.log(), once=True)


async def test_a_primary_is_killed_under_load_and_its_replica_takes_over(
    shards: RedisCluster,
) -> None:
    async with _opened(shards, redis_wait_replicas=1) as transport:
        traffic = _Traffic(transport)
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
        _stands(traffic, await traffic.log(), once=False)


async def _is_elsewhere(shards: RedisCluster, conversation: int, victim: ValkeyServer) -> bool:
    return await shards.primary_of(f"msg:stream:{conversation % _PARTITIONS}") is not victim


async def test_a_move_that_stops_halfway_holds_up_nobody_else(shards: RedisCluster) -> None:
    """Its stream is on one server and what is beside it on the other: TRYAGAIN, for hours maybe."""
    slot, stream = key_slot(b"msg:stream:0"), "msg:stream:0"
    async with _opened(shards) as transport:
        await transport.publish([message("first", partition=0, of=transport)])
        to = await _other(shards, await shards.primary_of(stream))
        source = await shards.begin_move(slot, to)
        await shards.run(source, "MIGRATE", to.host, to.port, stream, 0, 5000)
        stuck = message("stuck", partition=0, of=transport)
        free = [message(f"free {n}", partition=n, of=transport) for n in range(1, _PARTITIONS)]
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
        assert loop.time() - began < 2, "a second each, as the first time"
        got: dict[str, float] = {}
        async with _reading(transport, "reader", got):  # it goes on asking for what is there
            await eventually(lambda: len(got) >= _PARTITIONS - 1)
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
            assert sorted(took)[2] < 0.8, "a stuck slot holds up each tick, or each read"
        while await shards.move_keys(slot, source, to):
            pass
        await shards.end_move(slot, source, to)

        async def is_taken() -> bool:
            (outcome,) = await transport.publish([stuck])
            return isinstance(outcome, Appended)

        await eventually(is_taken)
        assert len(await transport.read(Topic.MESSAGES, 0)) == 2


@pytest.mark.parametrize("moves_lease", [True, False])
async def test_a_call_that_lacks_the_lease_does_not_begin(
    shards: RedisCluster, moves_lease: bool
) -> None:
    """What the lease knows is needed for a repeat whose record is in the log no more."""
    stream, lease = "msg:stream:0", "{msg:stream:0}:lease:persistence-workers"
    memories = [f"{{{stream}}}:memory:{n}" for n in (0, 1)]
    slot = key_slot(stream.encode())
    async with _opened(shards) as transport:
        old, new, more = (message(it, partition=0, of=transport) for it in ("old", "new", "more"))
        appended, _ = await transport.publish([old, more])
        for memory in memories:  # a call whose keys are not all there is refused in any case
            await shards.run_at(memory, "HSETNX", memory, "seconds", 300)
            await shards.run_at(memory, "EXPIRE", memory, 100)
        await shards.run_at(stream, "XDEL", stream, _offset(appended))
        to = await _other(shards, await shards.primary_of(stream))
        source = await shards.begin_move(slot, to)
        moved = [lease] if moves_lease else [stream, *memories]
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
    async with _opened(shards) as transport:
        (first,) = await transport.publish([message("first", partition=0, of=transport)])
        assert isinstance(first, Appended)
        to = await _other(shards, await shards.primary_of(stream))
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
        assert [_id(record) for record in records] == [it.message_id for it, _ in sent]


async def _read_all(
    transport: RedisTransport,
    member: str,
    got: dict[str, float] | None = None,
    *,
    of: dict[int, str] | None = None,
) -> None:
    """Read as a member; note when each message came, and who has each partition.

    A claim that is revoked is given back a moment later, as by a worker that has rows in hand.
    """

    async def read(claim: Claim) -> None:
        with suppress(TransportError):
            async with claim:
                while True:
                    try:
                        for record in await claim.next(max_records=10, max_wait=5.0):
                            await claim.ack(record.offset)
                            if got is not None:
                                got[_id(record)] = asyncio.get_running_loop().time()
                    except PartitionLost:
                        await asyncio.sleep(0.02 * (claim.partition % 8))
                        raise
                    except TransportError:
                        await asyncio.sleep(0.05)
                        await claim.nack()

    consumer = transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member=member)
    async with consumer, asyncio.TaskGroup() as group:
        async for claim in consumer.claims():
            if of is not None:
                of[claim.partition] = member
            group.create_task(read(claim))


@asynccontextmanager
async def _reading(
    transport: RedisTransport, member: str, got: dict[str, float] | None = None, **more: Any
) -> AsyncIterator[asyncio.Task[None]]:
    reader = asyncio.create_task(_read_all(transport, member, got, **more))
    try:
        yield reader
    finally:
        reader.cancel()
        await asyncio.wait([reader])


async def test_a_member_outlives_what_it_gives_up_to_another(shards: RedisCluster) -> None:
    count = 16
    owners: dict[int, str] = {}
    async with (
        _opened(shards, stream_partitions=count) as transport,
        _opened(shards, stream_partitions=count) as other,
        _reading(transport, "a", of=owners) as reader,
    ):
        await eventually(lambda: len(owners) == count)
        async with _reading(other, "b", of=owners):
            await eventually(lambda: sum(it == "b" for it in owners.values()) == count // 2)
        await eventually(lambda: set(owners.values()) == {"a"})
        assert not reader.done()


async def test_a_shard_that_is_away_keeps_no_other_from_changing_hands(
    shards: RedisCluster,
) -> None:
    owners: dict[int, str] = {}
    members = await shards.primary_of("{msg:stream}:members")
    async with _opened(shards) as transport, _opened(shards) as other:
        on = {p: await shards.primary_of(f"msg:stream:{p}") for p in range(_PARTITIONS)}
        victim = next(it for it in on.values() if it is not members)
        async with _reading(transport, "a", of=owners):
            await eventually(lambda: len(owners) == _PARTITIONS)
            gone = [victim, *await shards.replicas_of(victim)]
            for server in gone:
                await server.kill()
            with pytest.raises(PartlyUnavailable, match=f"the others do: .*:{victim.port} "):
                await transport.ping()
            async with _reading(other, "b", of=owners):
                await eventually(lambda: "b" in owners.values())
            healthy = [p for p in on if on[p] is not victim]
            await eventually(lambda: {owners[p] for p in healthy} == {"a"})
            for server in gone:
                await server.start()
            await shards.is_whole()


async def test_a_call_waits_for_no_other_server_that_hangs(shards: RedisCluster) -> None:
    victim = await shards.primary_of("msg:stream:0")
    streams = [f"msg:stream:{p}" for p in range(_PARTITIONS)]
    well = [it for it in streams if await shards.primary_of(it) is not victim]
    connections = RedisConnections(_settings(shards, redis_timeout_ms=20_000))
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
    victim = await shards.primary_of("msg:stream:0")
    url = f"redis://{victim.host}:{victim.port},{shards.addresses}/0"
    async with _opened(shards, redis_url=url) as transport:
        await transport.publish([message("first", partition=0, of=transport)])
        await shards.run(victim, "DEBUG", "DROP-CLUSTER-PACKET-FILTER", -2)
        try:
            await _promoted(shards, victim)

            async def is_taken() -> bool:
                (outcome,) = await transport.publish([message("m", partition=0, of=transport)])
                return isinstance(outcome, Appended)

            await eventually(lambda: _is_down(shards, victim))
            await eventually(is_taken)
        finally:
            await shards.run(victim, "DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1)


async def _is_down(shards: RedisCluster, server: ValkeyServer) -> bool:
    return "cluster_state:fail" in await shards.run(server, "CLUSTER", "INFO")


async def test_a_slot_on_its_way_leaves_others_confirmed(shards: RedisCluster) -> None:
    slot, stream = key_slot(b"msg:stream:0"), "msg:stream:0"
    async with _opened(shards, redis_wait_replicas=1) as transport:
        source = await shards.primary_of(stream)
        beside = [
            p for p in range(1, _PARTITIONS) if await shards.primary_of(f"msg:stream:{p}") is source
        ]
        assert beside
        await transport.publish([message("first", partition=0, of=transport)])
        to = await _other(shards, source)
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


async def test_idle_workers_are_woken_and_do_not_poll(shards: RedisCluster) -> None:
    async def reads() -> int:
        count = 0
        for server in await shards.primaries():
            told = await shards.run(server, "INFO", "commandstats")
            count += sum(int(it) for it in re.findall(r"xreadgroup:calls=(\d+)", told))
        return count

    async with _opened(shards) as transport, _opened(shards) as other:
        got: asyncio.Queue[Record] = asyncio.Queue()

        async def read(claim: Claim) -> None:
            async with claim:
                while True:
                    for record in await claim.next(max_records=10, max_wait=60.0):
                        await claim.ack(record.offset)
                        got.put_nowait(record)

        async def read_all() -> None:
            consumer = transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member="reader")
            async with consumer, asyncio.TaskGroup() as group:
                async for claim in consumer.claims():
                    group.create_task(read(claim))

        reader = asyncio.create_task(read_all())
        loop = asyncio.get_running_loop()
        for partition in range(_PARTITIONS):
            await other.publish([message("wake", partition=partition, of=other)])
            async with asyncio.timeout(5):
                await got.get()
        before, began = await reads(), loop.time()
        await asyncio.sleep(1.0)
        assert await reads() - before <= _PARTITIONS * (loop.time() - began), "no ten a second each"
        reader.cancel()
        await asyncio.wait([reader])


async def test_what_is_full_or_not_durable_is_told_of_each_shard(shards: RedisCluster) -> None:
    async with _opened(shards) as transport:
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
                [message(f"m{p}", partition=p, of=transport) for p in range(_PARTITIONS)]
            )
            elsewhere = [await shards.primary_of(f"msg:stream:{p}") for p in range(_PARTITIONS)]
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


async def test_any_server_of_the_cluster_leads_to_all_of_it(shards: RedisCluster) -> None:
    primaries = await shards.primaries()
    replica = next(server for server in shards.servers if server not in primaries)
    for url in (
        f"redis://{replica.host}:{replica.port}/0",
        f"redis://127.0.0.1:1,{replica.host}:{replica.port}/0",
    ):
        transport = RedisTransport.from_settings(_settings(shards, redis_url=url))
        assert not await transport.exists()
        async with transport:
            await transport.publish([message("m", partition=0, of=transport)])
            assert await transport.exists()
            holdings = await transport.remove(dry_run=True)
            assert sum(it.kind == "stream" for it in holdings) == _PARTITIONS + 1
            await transport.remove()
        assert not await transport.exists()


async def test_servers_that_have_no_host_name_are_found(shards: RedisCluster) -> None:
    for server in shards.servers:
        await shards.run(server, "CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    try:
        async with _opened(shards) as transport:
            stream = "msg:stream:0"
            await shards.move(
                key_slot(stream.encode()), await _other(shards, await shards.primary_of(stream))
            )
            outcomes = await transport.publish(
                [message(f"m{p}", partition=p, of=transport) for p in range(_PARTITIONS)]
            )
            assert all(isinstance(it, Appended) for it in outcomes), outcomes
    finally:
        for server in shards.servers:
            await shards.run(server, "CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


async def test_a_server_that_lacks_the_user_is_told_of(shards: RedisCluster) -> None:
    for server in shards.servers:
        rights = ("on", ">secret", "allkeys", "allcommands")
        await shards.run(server, "ACL", "SETUSER", "crossfade", *rights)
    named = f"redis://crossfade:secret@{shards.addresses}/0"
    async with _opened(shards, redis_url=named) as transport:
        lacks = await shards.primary_of("msg:stream:0")
        await shards.run(lacks, "ACL", "DELUSER", "crossfade")  # also hangs up on it
        for _ in range(3):
            (outcome,) = await transport.publish([message("m", partition=0, of=transport)])
        assert isinstance(outcome, TransportUnavailable)
        assert "refused our credentials" in str(outcome)
    for server in shards.servers:
        await shards.run(server, "ACL", "DELUSER", "crossfade")


async def test_several_servers_that_are_no_cluster_are_refused(own_redis: ValkeyServer) -> None:
    url = f"redis://{own_redis.host}:{own_redis.port},127.0.0.1:1/0"
    with pytest.raises(ConfigurationError, match="not one of a cluster"):
        async with RedisTransport.from_settings(short_settings(own_redis, redis_url=url)):
            pass


@pytest.mark.chaos
async def test_slots_move_and_primaries_die_again_and_again(shards: RedisCluster) -> None:
    async with _opened(shards, redis_wait_replicas=1) as transport:
        traffic = _Traffic(transport)
        async with traffic.running():
            await traffic.goes_on()
            for turn in range(12):
                if turn % 3 == 0:
                    await _move(shards, traffic, _SLOTTED)
                victim = await shards.primary_of(f"msg:stream:{turn % _PARTITIONS}")
                if turn % 2:
                    await victim.kill()
                    await _promoted(shards, victim)
                    await victim.start()
                else:
                    await victim.suspend()
                    await _promoted(shards, victim)
                    await victim.resume()
                await shards.is_whole()
                await traffic.goes_on()
        _stands(traffic, await traffic.log(), once=False)


async def _promoted(shards: RedisCluster, victim: ValkeyServer) -> None:
    async def has_no_slots() -> bool:
        return victim not in await shards.primaries(but=victim)

    await eventually(has_no_slots, 20.0)
