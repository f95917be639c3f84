"""A cluster of one: it has every slot, and refuses each call that touches two.

The whole suite runs on it. Several servers: test_redis_shards.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.crc import key_slot

from compose.local.binaries import find_redis_servers
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.redis_cluster import must_keep_keys
from tests.transport.redis_backend import backend_on, short_settings
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.conformance.envelopes import message
from transport.contract import Appended, Remembered
from transport.errors import ConfigurationError
from transport.redis import RedisTransport
from transport.redis.administration.fitness import must_keep_records
from transport.redis.connection.rights import LEAST

_BINARY, *_ = find_redis_servers().binaries
_SLOTS = 16_384


async def _told(server: ValkeyServer) -> bytes:
    async with Redis(host=server.host, port=server.port, protocol=2) as client:
        client.response_callbacks.pop("CLUSTER INFO", None)
        told: bytes = await client.execute_command("CLUSTER INFO")
        return told


async def _cluster_command(server: ValkeyServer, *arguments: str | int) -> None:
    async with Redis(host=server.host, port=server.port) as client:
        await client.execute_command("CLUSTER", *arguments)


async def _start(server: ValkeyServer) -> None:
    """Start it, give it every slot if it has none, and wait until it takes keys."""
    await server.start()
    if b"cluster_slots_assigned:0" in await _told(server):
        await _cluster_command(server, "ADDSLOTSRANGE", 0, _SLOTS - 1)

    async def takes_keys() -> bool:
        return b"cluster_state:ok" in await _told(server)

    await eventually(takes_keys)


@pytest_asyncio.fixture(scope="session")
async def _cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyServer]:
    must_keep_keys(_BINARY)
    server = ValkeyServer(
        tmp_path_factory.mktemp("cluster") / "data",
        binary=_BINARY,
        config={"cluster-enabled": "yes"},
    )
    await _start(server)
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def cluster(_cluster: ValkeyServer) -> ValkeyServer:
    """The cluster, empty."""
    if not _cluster.running:
        await _start(_cluster)
    async with Redis(host=_cluster.host, port=_cluster.port) as client:
        await client.flushall()
    return _cluster


@pytest_asyncio.fixture
async def backend(cluster: ValkeyServer) -> Backend:
    async def start() -> None:
        await _start(cluster)

    return dataclasses.replace(backend_on(cluster, redis_stream_db=0), start=start)


async def test_a_partition_and_all_beside_it_live_in_one_slot(cluster: ValkeyServer) -> None:
    settings = short_settings(cluster, redis_stream_db=0)
    async with (
        RedisTransport.from_settings(settings) as transport,
        Redis(host=cluster.host, port=cluster.port) as client,
    ):
        envelopes = [message(f"m{n}", partition=n % 4, of=transport) for n in range(12)]
        outcomes = await transport.publish(envelopes)
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        again = await transport.publish(envelopes)
        assert all(isinstance(outcome, Remembered) for outcome in again)
        assert [it.offset for it in again] == [it.offset for it in outcomes], "each its own answer"
        recalled = await transport.recall([e.message_id for e in envelopes])
        assert [it and it.offset for it in recalled] == [it.offset for it in outcomes]
        for partition in range(4):
            keys = await client.keys(f"*msg:stream:{partition}*")
            assert len(keys) >= 3, "stream, accounts and memory"
            assert len({key_slot(key) for key in keys}) == 1


async def test_one_shard_is_used_as_a_server_alone_with_no_more_rights(
    cluster: ValkeyServer,
) -> None:
    """At the address that is named, whatever it calls itself, and what it loses is rescued."""
    settings = short_settings(
        cluster, redis_stream_db=0, redis_username="least", redis_password="pw"
    )
    async with Redis(host=cluster.host, port=cluster.port) as client:
        rights = f"{LEAST} +info".split()
        await client.execute_command("ACL", "SETUSER", "least", "reset", "on", ">pw", *rights)
        await client.config_set("cluster-announce-ip", "10.255.255.1")
        try:
            for _ in range(2):
                async with RedisTransport.from_settings(settings) as transport:
                    (outcome,) = await transport.publish([message("m", partition=0, of=transport)])
                    assert isinstance(outcome, Appended | Remembered)
                await client.execute_command("ACL", "SETUSER", "least", "+cluster|slots")
        finally:
            await client.config_set("cluster-announce-ip", "")


async def test_the_number_of_a_database_is_refused_with_the_remedy(cluster: ValkeyServer) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_STREAM_DB"):
        async with RedisTransport.from_settings(short_settings(cluster)):
            pass


async def test_a_valkey_that_loses_a_clusters_keys_as_it_restarts_stops_the_start(
    cluster: ValkeyServer,
) -> None:
    """Of Valkey 9.0.1, only the version is made up. `make redis-versions` has a real 9.0.0."""
    async with Redis(host=cluster.host, port=cluster.port, decode_responses=True) as client:
        client.response_callbacks.pop("INFO", None)
        info = str(await client.execute_command("INFO"))
    told = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    must_keep_records(told)
    with pytest.raises(ConfigurationError, match=r"Valkey 9\.0\.1, .* upgrade it to 9\.0\.2"):
        must_keep_records(told | {"valkey_version": "9.0.1"})
    must_keep_records(told | {"valkey_version": "9.0.1", "aof_enabled": "0"})
    must_keep_records(told | {"valkey_version": "9.0.2"})
    alone = {"server_mode": "standalone", "redis_mode": "standalone"}
    must_keep_records(told | {"valkey_version": "9.0.1"} | alone)
