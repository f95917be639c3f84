"""One process on two logs of one kind: on one server, and on two."""

from __future__ import annotations

import re

import httpx
import pytest

from compose.local.ports import free_port
from tests.support.eventually import eventually
from transport.contract import WORKER_GROUP, Topic
from transport.registry import create
from transport.settings import TransportSettings

_COUNT = 30


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def _post(api: str, number: int) -> int:
    body = {
        "conversationId": f"conversation-{number % 7}",
        "senderId": "s",
        "clientMessageId": f"{number}",
        "content": f"{number}",
    }
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return (await client.post(f"{api}/api/messages", json=body)).status_code


@pytest.mark.parametrize("shadow", ["redis@16", "redis.eu"])
async def test_every_message_is_in_both_and_a_row_once(
    crossfade, new_redis, database_url, database_pool, shadow
):
    one, other = await new_redis(), await new_redis()
    port, metrics_port = free_port(), free_port()
    settings = {
        "REDIS_HOST": one.host,
        "REDIS_PORT": str(one.port),
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "TRANSPORT_SHADOW": shadow,
        "TRANSPORT_SHADOW_MODE": "sync",
        "CONSUME_FROM": shadow,
    }
    if ".eu" in shadow:
        settings["LOG_EU_REDIS_PORT"] = str(other.port)
    api = f"http://127.0.0.1:{port}"
    running = await crossfade("serve", **settings)

    async def ready() -> bool:
        try:
            return (await _get(f"{api}/readyz")).json()["status"] == "ready"
        except httpx.TransportError:
            return False

    await eventually(ready)
    assert [await _post(api, number) for number in range(_COUNT)] == [202] * _COUNT

    async def persisted() -> bool:
        return await database_pool.fetchval("SELECT count(*) FROM messages") == _COUNT

    await eventually(persisted)
    from_logs = await database_pool.fetch("SELECT DISTINCT transport FROM messages")
    assert shadow in {row["transport"] for row in from_logs}
    ours = TransportSettings(redis_host=one.host, redis_port=one.port)
    ours = ours.with_labels({"eu": ours.model_copy(update={"redis_port": other.port})})
    for name in ("redis", shadow):
        async with create(name, ours) as log:
            assert log.partitions == 16
            found = [r for p in range(16) for r in await log.read(Topic.MESSAGES, p)]
            assert len(found) == _COUNT

            async def settled(log=log) -> bool:
                progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
                return all(partition.lag == 0 for partition in progress)

            await eventually(settled)
        assert await _appended(metrics_port, name) == _COUNT
    assert await running.terminate() == 0


async def _appended(port: int, log: str) -> float:
    text = (await _get(f"http://127.0.0.1:{port}/metrics")).text
    sample = rf'stream_enqueue_total{{partition="\d+",transport="{re.escape(log)}"}} (\S+)'
    return sum(float(value) for value in re.findall(sample, text))
