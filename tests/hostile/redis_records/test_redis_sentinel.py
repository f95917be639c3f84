"""Redis behind sentinels: the primary is asked for, and followed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from lab.harness.history import ClientAttempt, Outcome
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.eventually import eventually
from tests.support.sentinel import SentinelServer
from tests.transport.settler import Settler
from transport.conformance.envelopes import contents, message
from transport.contract import Appended, Envelope
from transport.errors import AppendUnknown, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.connection.connection import Address, RedisConnection
from transport.redis.connection.greeting import Greeting
from transport.redis.connection.locator import SentinelLocator, StaticLocator
from transport.settings import TransportSettings

NewRedis = Callable[..., Awaitable[ValkeyServer]]


class Watched:
    """A primary and its replica, and a sentinel that watches both."""

    def __init__(self, servers: list[ValkeyServer], sentinel: SentinelServer) -> None:
        self.servers, self.sentinel = servers, sentinel

    async def primary(self) -> ValkeyServer:
        port = await self.sentinel.primary_port()
        return next(it for it in self.servers if it.port == port)

    async def in_step(self) -> None:
        """Wait until the replica follows the present primary, and the sentinel knows it."""
        primary = await self.primary()
        (replica,) = (it for it in self.servers if it is not primary)

        async def follows() -> bool:
            async with _client(replica) as client:
                told = await client.info("replication")
            return (
                told["role"] == "slave"
                and told["master_port"] == primary.port
                and told["master_link_status"] == "up"
            )

        await eventually(follows)
        await self.sentinel.knows_replicas(1)


def _client(server: ValkeyServer) -> Redis:
    return Redis(host=server.host, port=server.port, db=1, protocol=2)


@pytest_asyncio.fixture
async def watched(new_redis: NewRedis, tmp_path: Path) -> AsyncIterator[Watched]:
    servers = [await new_redis(repl_diskless_sync_delay="0") for _ in range(2)]
    async with _watched(servers, tmp_path / "sentinel" / "data") as watched:
        yield watched


@asynccontextmanager
async def _watched(servers: list[ValkeyServer], folder: Path) -> AsyncIterator[Watched]:
    async with _client(servers[1]) as replica:
        await replica.execute_command("REPLICAOF", servers[0].host, servers[0].port)
    async with SentinelServer(folder, servers[0]) as sentinel:
        watched = Watched(servers, sentinel)
        await watched.in_step()
        yield watched


def _settings(sentinel: SentinelServer, **changes: object) -> TransportSettings:
    settings: dict[str, object] = {
        "redis_url": sentinel.url,
        "redis_sentinel_password": sentinel.password,
        "stream_partitions": 4,
        "redis_timeout_ms": 2000,
    }
    return TransportSettings(**(settings | changes))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def transport(watched: Watched) -> AsyncIterator[RedisTransport]:
    async with RedisTransport.from_settings(_settings(watched.sentinel)) as transport:
        yield transport


async def _appends(transport: RedisTransport) -> bool:
    (outcome,) = await transport.publish([message("again", partition=2, of=transport)])
    return isinstance(outcome, Appended)


@pytest.mark.parametrize("how", ["asked for", "primary killed"])
async def test_appends_and_reads_follow_the_primary(
    watched: Watched, transport: RedisTransport, how: str
) -> None:
    worker = Settler(transport)
    async with worker.working():
        old = await watched.primary()
        if how == "asked for":
            await watched.sentinel.fail_over()
        else:
            await old.kill()
        # How long the sentinels take is theirs: those of Redis 7 take some seconds.
        await eventually(lambda: _is_another(watched, old))
        await eventually(lambda: _appends(transport))
        (outcome,) = await transport.publish([message("after", partition=0, of=transport)])
        assert isinstance(outcome, Appended)

        await eventually(lambda: "after" in contents(worker.records))


async def test_connections_to_another_server_are_left_when_a_new_one_is_made(
    watched: Watched, transport: RedisTransport
) -> None:
    """The old primary was cut off: it knows of nothing, and keeps our sessions."""
    async with Settler(transport).working():
        old = await watched.primary()
        await old.suspend()
        try:
            await eventually(lambda: _appends(transport))
        finally:
            await old.resume()

        async def none_is_left() -> bool:
            async with _client(old) as client:
                told = await client.client_list()
            return not [it for it in told if it["db"] == "1" and it["cmd"] != "client|list"]

        await eventually(none_is_left)


async def test_a_replica_that_a_sentinel_names_is_not_taken_for_the_primary(
    watched: Watched,
) -> None:
    primary = await watched.primary()
    (replica,) = (it for it in watched.servers if it is not primary)
    address = Address(replica.host, replica.port, None, Greeting(), 2.0, 2.0, wants_primary=True)
    connection = RedisConnection(StaticLocator(address))
    with pytest.raises(TransportUnavailable, match="a failover is under way"):
        await connection.open()
    assert not connection.is_open


async def test_too_few_sentinels_are_told_with_the_settings_to_look_at(watched: Watched) -> None:
    sentinel = watched.sentinel
    greeting = Greeting(password="sesame")
    there = Address(sentinel.host, sentinel.port, None, greeting, 1.0, 1.0)
    gone = msgspec.structs.replace(there, port=1)
    for named, is_enough in (([there, gone, gone], False), ([there, there, gone], True)):
        locator = SentinelLocator(named, "messages", there)
        try:
            if is_enough:
                assert (await locator.locate()).port == await sentinel.primary_port()
            else:
                with pytest.raises(TransportUnavailable, match=r"1 of 3 sentinels.*REDIS_URL"):
                    await locator.locate()
        finally:
            locator.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"redis_sentinel_password": None}, "REDIS_SENTINEL_PASSWORD"),
        ({"redis_sentinel_password": "wrong-word"}, "REDIS_SENTINEL_PASSWORD"),
        ({"redis_url": "redis+sentinel://127.0.0.1:{port}/other"}, r"'other'.*REDIS_URL"),
    ],
)
async def test_what_a_sentinel_refuses_names_the_setting(
    watched: Watched, changes: dict[str, str | None], words: str
) -> None:
    changes = {k: v and v.format(port=watched.sentinel.port) for k, v in changes.items()}
    with pytest.raises(TransportUnavailable, match=words) as told:
        async with RedisTransport.from_settings(_settings(watched.sentinel, **changes)):
            pass
    assert "wrong-word" not in str(told.value)


async def test_the_sentinels_password_may_be_in_a_file(watched: Watched, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(f"{watched.sentinel.password}\n")
    changes = {"redis_sentinel_password": None, "redis_sentinel_password_file": str(password)}
    async with RedisTransport.from_settings(_settings(watched.sentinel, **changes)) as transport:
        (outcome,) = await transport.publish([message("x", partition=0, of=transport)])
        assert isinstance(outcome, Appended)


async def test_an_append_counts_once_the_replicas_have_it(watched: Watched) -> None:
    """A repeat of one that they don't have, too: it is answered, and writes nothing itself."""
    settings = _settings(watched.sentinel, redis_wait_replicas=1, redis_timeout_ms=1000)
    primary = await watched.primary()
    (replica,) = (it for it in watched.servers if it is not primary)
    async with RedisTransport.from_settings(settings) as transport:

        async def counts(envelope: Envelope) -> bool:
            return not isinstance((await transport.publish([envelope]))[0], AppendUnknown)

        envelope = message("first", partition=0, of=transport)
        await eventually(partial(counts, envelope))
        again = message("second", partition=0, of=transport)
        await replica.suspend()
        try:
            (outcome,) = await transport.publish([again])
            assert isinstance(outcome, AppendUnknown)
            assert "REDIS_WAIT_REPLICAS=1" in str(outcome)
            for known in (again, envelope):
                (outcome,) = await transport.publish([known])
                assert isinstance(outcome, AppendUnknown), "it may be on the primary alone"
        finally:
            await replica.resume()
        await eventually(partial(counts, again))
        async with _client(primary) as client:
            await client.execute_command("FUNCTION", "FLUSH")
            assert await _appends(transport), "sent again, and waited for again"


@pytest.mark.chaos
async def test_posts_go_on_through_a_failover_and_nothing_is_lost_that_replicas_confirmed(
    deployment: Deployment, new_redis: NewRedis, tmp_path: Path
) -> None:
    assert isinstance(deployment.log, RedisLog)
    servers = [deployment.log.server, await new_redis(repl_diskless_sync_delay="0")]
    async with _watched(servers, tmp_path / "sentinel" / "data") as watched:
        await _fail_over_under_load(deployment, watched, ["asked for"])


async def _fail_over_under_load(
    deployment: Deployment, watched: Watched, hows: Sequence[str], messages: int = 100, **load: Any
) -> None:
    """Fail over as ``hows`` says, with so many messages before each failover and after it."""
    assert isinstance(deployment.log, RedisLog)
    ingresses, _ = await deployment.run(
        REDIS_HOST="",
        REDIS_PORT="",
        REDIS_URL=watched.sentinel.url,
        REDIS_SENTINEL_PASSWORD=watched.sentinel.password,
        REDIS_WAIT_REPLICAS="1",
        REDIS_TIMEOUT_MS="2000",
    )
    async with deployment.load(ingresses, **load) as running:
        for how in hows:
            await running.goes_on(messages)
            old = await watched.primary()
            if how == "killed":
                await old.kill()
                await eventually(lambda old=old: _is_another(watched, old))
                await old.start()
            else:
                await watched.sentinel.fail_over()
            await watched.in_step()  # before that there is no replica to confirm anything
            over = time.monotonic()
            await running.goes_on(messages)
            if len(hows) == 1:  # one after the other, they leave the machine no time for it
                await _quiet_since(deployment, over + 1.0)
    deployment.log.server = await watched.primary()  # where the verdict is read
    await deployment.assert_promises_held()
    await deployment.stop()


async def _is_another(watched: Watched, than: ValkeyServer) -> bool:
    return await watched.primary() is not than


async def _quiet_since(deployment: Deployment, moment: float) -> None:
    """Wait until there were POSTs after ``moment``, and fail if one of them got no answer."""

    def later() -> list[ClientAttempt]:
        attempts = deployment.history.attempts
        return [a for a in attempts if a.sent > moment and a.ended < time.monotonic()]

    await eventually(lambda: len(later()) > 20)
    failed = [a.detail for a in later() if a.outcome is Outcome.UNKNOWN]
    assert not failed, f"{len(failed)} of {len(later())}: {failed[0]}"


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_twenty_failovers_under_load_lose_nothing_that_replicas_confirmed(
    deployment: Deployment, new_redis: NewRedis, tmp_path: Path
) -> None:
    assert isinstance(deployment.log, RedisLog)
    servers = [deployment.log.server, await new_redis(repl_diskless_sync_delay="0")]
    async with _watched(servers, tmp_path / "sentinel" / "data") as watched:
        hows = 10 * ["killed", "asked for"]
        await _fail_over_under_load(
            deployment, watched, hows, messages=3000, pause=0.1, conversations=120, catch_up=True
        )
