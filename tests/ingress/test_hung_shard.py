"""A Redis Cluster of which one primary hangs: POSTs and rows of the other shards go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_backend import short_settings
from transport.contract import WORKER_GROUP, Topic
from transport.message.partitioner import partition_for
from transport.redis import RedisTransport

_PARTITIONS = 6
_TIMEOUT_SECONDS = 600.0  # nothing here waits for it
_REST_SECONDS = 0.2  # from an answer 503 to the next attempt


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster(tmp_path)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


@pytest.mark.parametrize("door", ["protocol"])
@pytest.mark.parametrize(
    "worker", ["of the same process", pytest.param("of another", marks=pytest.mark.chaos)]
)
async def test_posts_and_rows_of_other_shards_go_on(
    cluster: RedisCluster, launch: Start, worker: str
) -> None:
    """A worker of the same process is handed what it appends; another one reads it."""
    settings = short_settings(
        None,
        redis_url=f"redis://{cluster.addresses}/0",
        stream_partitions=_PARTITIONS,
        redis_timeout_ms=int(_TIMEOUT_SECONDS * 1000),
    )
    async with (
        RedisTransport.from_settings(settings) as transport,
        RedisTransport.from_settings(settings) as other,
    ):
        service = await launch(transport=transport)
        victim = await cluster.primary_of("msg:stream:0")
        hung = [p for p in range(_PARTITIONS) if await _has(cluster, victim, p)]
        healthy = [p for p in range(_PARTITIONS) if p not in hung]
        assert len(healthy) > 1
        reader = transport if worker == "of the same process" else other
        async with working(replace(service, transport=reader)):
            await _post_all(service, range(_PARTITIONS), "before")
            await eventually(lambda: _rows(service, "before", _PARTITIONS))
            await victim.suspend()
            try:
                late = [asyncio.create_task(_post_until_taken(service, p)) for p in hung]
                for n in range(20):
                    await asyncio.gather(*(_post(service, p, f"on {n}") for p in healthy))
                await eventually(lambda: _rows(service, "on", 20 * len(healthy)))
                await eventually(lambda: _acknowledged(transport, healthy))
                found = await service.client.get(f"/api/messages/{await _last(service)}")
                assert found.status_code == 200
                assert not any(task.done() for task in late), "the shard does not hang"
                ready = await service.client.get("/readyz")
                assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            finally:
                await victim.resume()
            await asyncio.gather(*late)


async def _has(cluster: RedisCluster, server: object, partition: int) -> bool:
    return await cluster.primary_of(f"msg:stream:{partition}") is server


async def _post_all(service: Service, partitions: Sequence[int], text: str) -> None:
    await asyncio.gather(*(_post(service, p, text) for p in partitions))


async def _post(service: Service, partition: int, text: str) -> None:
    answer = await _sent(service, partition, text)
    assert answer.status_code == 202, answer.text


async def _post_until_taken(service: Service, partition: int) -> None:
    """Send a message as clients do: once more whenever the answer is 503."""
    while True:
        answer = await _sent(service, partition, "hung")
        if answer.status_code != 503:
            break
        await asyncio.sleep(_REST_SECONDS)
    assert answer.is_success, answer.text  # 200: an earlier attempt was appended after all


async def _sent(service: Service, partition: int, text: str) -> httpx.Response:
    conversation = next(
        name for n in count() if partition_for(name := f"c{n}", _PARTITIONS) == partition
    )
    body = message(conversationId=conversation, content=text, clientMessageId=f"{text} {partition}")
    return await service.post(body)


async def _rows(service: Service, text: str, at_least: int) -> bool:
    rows = [row for row in await service.rows() if row["content"].startswith(text)]
    return len(rows) >= at_least


async def _acknowledged(transport: RedisTransport, partitions: Sequence[int]) -> bool:
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return all(progress[partition].lag == 0 for partition in partitions)


async def _last(service: Service) -> str:
    return str((await service.rows())[-1]["id"])
