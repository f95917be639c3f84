"""A shard of a Redis Cluster fails over and loses its tail: all that was acknowledged has rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_backend import short_settings
from transport.message.partitioner import partition_for
from transport.redis import RedisTransport

_PARTITIONS = 6


@pytest.mark.parametrize("door", ["protocol"])
async def test_rows_stand_in_the_order_of_their_acknowledgements(
    tmp_path: Path, launch: Start
) -> None:
    cluster = RedisCluster(tmp_path, replicas=1)
    await cluster.start()
    try:
        settings = short_settings(
            None, redis_url=f"redis://{cluster.addresses}/0", stream_partitions=_PARTITIONS
        )
        async with RedisTransport.from_settings(settings) as transport:
            service = await launch(transport=transport)
            await _post(service, "kept")
            partition = partition_for(message()["conversationId"], _PARTITIONS)
            victim = await cluster.cut(f"msg:stream:{partition}")
            lost = [f"lost {n}" for n in range(20)]
            for text in lost:
                await _post(service, text)
            await victim.kill()

            async def is_accepted() -> bool:
                return await _status(service, "new") in {200, 202}

            await eventually(is_accepted)
            async with working(service):
                await eventually(lambda: _has_row(service, "new"))
            assert [row["content"] for row in await service.rows()] == ["kept", *lost, "new"]
    finally:
        await cluster.stop()


async def _post(service: Service, text: str) -> None:
    assert await _status(service, text) == 202


async def _status(service: Service, text: str) -> int:
    return (await service.post(message(content=text, clientMessageId=text))).status_code


async def _has_row(service: Service, text: str) -> bool:
    return any(row["content"] == text for row in await service.rows())
