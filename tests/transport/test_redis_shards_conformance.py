"""The public suite on a cluster of three shards, as a user with the least rights for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_backend import short_settings
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.redis import RedisTransport
from transport.redis.connection.rights import BETTER, IN_CLUSTER, LEAST
from transport.registry import create

_USER, _PASSWORD = "transport", "pw"


@pytest_asyncio.fixture(scope="module")
async def _shards(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("shards"))
    try:
        await cluster.start()
        await _let_in(cluster)
        yield cluster
    finally:
        await cluster.stop()


async def _let_in(cluster: RedisCluster) -> None:
    rights = ("reset", "on", f">{_PASSWORD}", *f"{LEAST} {BETTER} {IN_CLUSTER}".split())
    for server in cluster.servers:
        await cluster.run(server, "ACL", "SETUSER", _USER, *rights)


@pytest_asyncio.fixture
async def backend(_shards: RedisCluster) -> Backend:
    cluster = _shards

    async def start() -> None:
        if all(server.running for server in cluster.servers):
            return
        await asyncio.gather(*(it.start() for it in cluster.servers if not it.running))
        await cluster.is_whole()
        await _let_in(cluster)

    async def append_raw(partition: int, body: bytes) -> None:
        stream = f"msg:stream:{partition}"
        await cluster.run_at(stream, "XADD", stream, "*", "body", body)

    async def remove(partition: int) -> None:
        stream = f"msg:stream:{partition}"
        await cluster.run_at(stream, "DEL", stream)

    async def remove_group(partition: int, group: str) -> None:
        stream = f"msg:stream:{partition}"
        await cluster.run_at(stream, "XGROUP", "DESTROY", stream, group)

    await start()
    await cluster.flush()
    settings = short_settings(
        None,
        redis_url=f"redis://{_USER}:{_PASSWORD}@{cluster.addresses}/0",
    )
    return Backend(
        create=lambda: create("redis", settings),
        features=RedisTransport.features,
        append_raw=append_raw,
        stop=cluster.stop,
        start=start,
        remove=remove,
        remove_group=remove_group,
        create_other=lambda: create("redis@5", settings),
    )
