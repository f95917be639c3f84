"""Redis behind a fixed address that fails over and leaves old sessions where they were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from lab.harness.history import ClientAttempt, Outcome
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.conformance.envelopes import contents, message
from transport.contract import Appended, Topic
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport
from transport.settings import TransportSettings

RECOVERED_SECONDS = 2.0
PATIENCE = 10.0

NewRedis = Callable[..., Awaitable[ValkeyServer]]


class Pair:
    """A primary, a replica that is in step, and the address that leads to the primary."""

    def __init__(self, one: ValkeyServer, other: ValkeyServer, proxy: FaultProxy) -> None:
        self.primary, self.replica, self.proxy = one, other, proxy

    async def follow(self) -> None:
        """Make the replica one, and return when it has everything."""
        async with _client(self.replica) as replica:
            await replica.execute_command("REPLICAOF", self.primary.host, self.primary.port)
        await eventually(self._in_step)

    async def fail_over(self) -> None:
        """Exchange the roles, with nothing lost and no session cut, and move the address."""
        async with _client(self.primary) as primary, _client(self.replica) as replica:
            # What is sent to the old primary meanwhile waits, and is then refused.
            await primary.execute_command("CLIENT", "PAUSE", 20_000, "WRITE")
            await eventually(self._in_step)
            await replica.execute_command("REPLICAOF", "NO", "ONE")
            await primary.execute_command("REPLICAOF", self.replica.host, self.replica.port)
            self.primary, self.replica = self.replica, self.primary
            self.proxy.lead_to(self.primary.host, self.primary.port)
            await primary.execute_command("CLIENT", "UNPAUSE")

    async def _in_step(self) -> bool:
        async with _client(self.primary) as primary, _client(self.replica) as replica:
            told = await replica.info("replication")
            ours = (await primary.info("replication"))["master_repl_offset"]
            return told["role"] == "slave" and (
                told["master_link_status"] == "up" and told["slave_repl_offset"] == ours
            )


def _client(server: ValkeyServer) -> Redis:
    return Redis(host=server.host, port=server.port, db=1, protocol=2)


@asynccontextmanager
async def _pair(primary: ValkeyServer, replica: ValkeyServer) -> AsyncIterator[Pair]:
    async with FaultProxy(primary.host, primary.port) as proxy:
        pair = Pair(primary, replica, proxy)
        await pair.follow()
        yield pair


@pytest.fixture
async def pair(new_redis: NewRedis) -> AsyncIterator[Pair]:
    servers = [await new_redis(repl_diskless_sync_delay="0") for _ in range(2)]
    async with _pair(*servers) as pair:
        yield pair


@pytest.fixture
async def transport(pair: Pair) -> AsyncIterator[RedisTransport]:
    settings = TransportSettings(
        redis_host=pair.proxy.host,
        redis_port=pair.proxy.port,
        stream_partitions=4,
        redis_timeout_ms=2000,
    )
    async with RedisTransport.from_settings(settings) as transport:
        yield transport


async def test_posts_go_on_after_a_failover_that_cuts_no_session(
    deployment: Deployment, new_redis: NewRedis
) -> None:
    """Twice, there and back, with nothing restarted: and every accepted message is a row."""
    assert isinstance(deployment.log, RedisLog)
    replica = await new_redis(repl_diskless_sync_delay="0")
    async with _pair(deployment.log.server, replica) as pair:
        through = deployment.log.environment_through(pair.proxy.host, pair.proxy.port)
        ingresses, _ = await deployment.run(**through)
        async with deployment.load(ingresses) as load:
            for _ in range(2):
                await load.goes_on(100)
                await pair.fail_over()
                over = time.monotonic()
                await load.goes_on(300)
                await _quiet_since(deployment, over + RECOVERED_SECONDS)
        deployment.log.server = pair.primary  # where the verdict is read
        await deployment.assert_promises_held()
        await deployment.stop()


@pytest.mark.chaos
async def test_a_failover_that_loses_the_tail_loses_no_message_that_an_ingress_has(
    deployment: Deployment, new_redis: NewRedis
) -> None:
    """The replica lacks what was acknowledged in the last second; both ingresses have it."""
    assert isinstance(deployment.log, RedisLog)
    replica = await new_redis(repl_diskless_sync_delay="0")
    async with _pair(deployment.log.server, replica) as pair:
        through = deployment.log.environment_through(pair.proxy.host, pair.proxy.port)
        ingresses, _ = await deployment.run(**through)
        async with deployment.load(ingresses, pause=0.05) as load:
            await load.goes_on(200)
            async with _client(replica) as client:
                await client.execute_command("REPLICAOF", "NO", "ONE")
            await load.goes_on(300)
            pair.proxy.lead_to(replica.host, replica.port)
            await pair.primary.kill()
            pair.proxy.reset()
            await load.goes_on(300)
        deployment.log.server = replica  # where the verdict is read
        await deployment.assert_promises_held()
        await deployment.stop()


async def _quiet_since(deployment: Deployment, moment: float) -> None:
    """Wait until there were POSTs after ``moment``, and fail if one of them got no answer."""

    def later() -> list[ClientAttempt]:
        attempts = deployment.history.attempts
        return [a for a in attempts if a.sent > moment and a.ended < time.monotonic()]

    await eventually(lambda: len(later()) > 50)
    failed = [a.detail for a in later() if a.outcome is Outcome.UNKNOWN]
    assert not failed, f"{len(failed)} of {len(later())}: {failed[0]}"


async def _appends(transport: RedisTransport) -> bool:
    (outcome,) = await transport.publish([message("again", partition=2, of=transport)])
    return isinstance(outcome, Appended)


async def test_one_refusal_replaces_every_connection(pair: Pair, transport: RedisTransport) -> None:
    """Also those that wait for entries or only read, which a replica would go on answering."""
    warm = [transport.publish([message(f"w{i}", partition=1, of=transport)]) for i in range(20)]
    await asyncio.gather(*warm)
    waiting = asyncio.create_task(transport.read(Topic.MESSAGES, 0, wait=60.0))
    await asyncio.sleep(1.0)  # a connection that is younger is kept whatever it answers
    before = pair.proxy.connections
    await pair.fail_over()
    await eventually(lambda: _appends(transport))
    many = [transport.publish([message(f"{i}", partition=1, of=transport)]) for i in range(20)]
    outcomes = [outcome for (outcome,) in await asyncio.gather(*many)]
    assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    assert pair.proxy.connections > before
    (again,) = await transport.publish([message("first", partition=0, of=transport)])
    assert isinstance(again, Appended)
    try:
        records = await waiting
    except TransportUnavailable:  # its read was refused by the old primary
        records = await transport.read(Topic.MESSAGES, 0, wait=PATIENCE)
    assert contents(records) == ["first"]

    async def none_is_left() -> bool:
        async with _client(pair.replica) as old:
            ours = [c for c in await old.client_list() if c["cmd"] != "client|list"]
            return [c for c in ours if "S" not in c["flags"] and "M" not in c["flags"]] == []

    await eventually(none_is_left)


async def test_a_promoted_replica_without_our_functions_gets_them(
    pair: Pair, transport: RedisTransport
) -> None:
    # A server that knows of no writer has all of them waited for: it may lack what they wrote.
    assert await _appends(transport)
    await pair.fail_over()
    async with _client(pair.primary) as client:
        await client.execute_command("FUNCTION", "FLUSH")

    await eventually(lambda: _appends(transport))


async def test_a_primary_cut_off_from_its_replicas_is_left_when_the_address_moves(
    pair: Pair, transport: RedisTransport
) -> None:
    """It does not know that it is no longer the primary, and it keeps our sessions."""
    (first,) = await transport.publish([message("first", partition=0, of=transport)])
    assert isinstance(first, Appended)
    await asyncio.sleep(0.6)
    async with _client(pair.primary) as old, _client(pair.replica) as new:
        await new.execute_command("REPLICAOF", "NO", "ONE")
        pair.proxy.lead_to(pair.replica.host, pair.replica.port)
        await old.config_set("min-replicas-to-write", 1)
        await eventually(lambda: _appends(transport))


async def test_a_server_that_stays_unfit_costs_no_connection_for_each_command(
    pair: Pair, transport: RedisTransport
) -> None:
    async with _client(pair.primary) as client:
        await client.execute_command("REPLICAOF", "127.0.0.1", 1)
        before, began = pair.proxy.connections, time.monotonic()
        for _ in range(60):
            (outcome,) = await transport.publish([message("x", partition=0, of=transport)])
            assert isinstance(outcome, TransportUnavailable)
        seconds = time.monotonic() - began
        assert pair.proxy.connections - before <= 2 * seconds + 2, "one each half second"
