"""A broker that comes back at another address, to which the address of our settings leads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from compose.local.ports import free_port
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_internals import look_for_leaders, producer_of, queue_of
from transport.conformance.envelopes import contents, message
from transport.conformance.reader import ConformanceReader
from transport.contract import Appended
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport


@pytest.mark.timeout(300)
async def test_appends_go_on_if_no_partition_had_a_leader_when_it_left(tmp_path: Path) -> None:
    """A broker that stops in order gives up its partitions first, and tells so for a while."""
    async with (
        run_kafka(tmp_path) as server,
        FaultProxy(server.host, server.port) as service,
        KafkaTransport(fresh_settings(f"{service.host}:{service.port}")) as transport,
    ):
        producer = producer_of(transport)
        assert producer is not None
        stopping = asyncio.create_task(server.stop())

        def is_leaderless() -> bool:
            look_for_leaders(producer)
            return producer.leader(queue_of(transport)) is None

        await eventually(is_leaderless)
        await stopping
        server.port = free_port()
        await server.start()
        service.lead_to(server.host, server.port)

        async def appended() -> bool:
            (outcome,) = await transport.publish([message("there", partition=0, of=transport)])
            assert isinstance(outcome, Appended | TransportUnavailable)
            return isinstance(outcome, Appended)

        await eventually(appended)
        reader = ConformanceReader(transport)
        async with reader.reading():
            await eventually(lambda: contents(reader.records) == ["there"])
