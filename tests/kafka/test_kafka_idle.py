"""What the readers of many partitions cost while nothing comes."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.kafka import fresh_settings
from transport.contract import Topic
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_PARTITIONS = 256
_CALM, _MEASURED = 4.0, 4.0  # seconds


@pytest.mark.quiet
async def test_waiting_for_many_idle_partitions_costs_little(
    kafka_settings: TransportSettings,
) -> None:
    settings = fresh_settings(
        kafka_settings.kafka_bootstrap_servers,
        kafka_timeout_ms=20_000,
        stream_partitions=_PARTITIONS,
    )
    async with KafkaTransport(settings) as transport:
        reads = [
            asyncio.create_task(transport.read(Topic.MESSAGES, partition, wait=60.0))
            for partition in range(_PARTITIONS)
        ]
        await asyncio.sleep(_CALM)
        begun = time.thread_time()
        await asyncio.sleep(_MEASURED)
        used = time.thread_time() - begun
        assert not any(read.done() for read in reads)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
    assert used < 0.012 * _MEASURED
