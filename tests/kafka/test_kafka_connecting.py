"""A node that hangs, and connections to the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient

from tests.support.kafka import run_kafka_cluster


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_node_that_hangs_delays_no_connection_to_another(tmp_path: Path) -> None:
    async with run_kafka_cluster(tmp_path) as cluster:
        client = AIOKafkaClient(bootstrap_servers=cluster.bootstrap)
        await client.bootstrap()
        await cluster.node(1).suspend()
        try:
            hanging = asyncio.create_task(client.ready(1))
            others = [asyncio.create_task(client.ready(node)) for node in (2, 2, 3)]
            assert all(await asyncio.gather(*others))
            assert not hanging.done()
        finally:
            await cluster.node(1).resume()
        assert await hanging
        await client.close()
