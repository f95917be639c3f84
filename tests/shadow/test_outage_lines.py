"""A shadow that takes some copies and refuses others is one outage in our log, with one end."""

from __future__ import annotations

import logging

import pytest

from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.conformance.envelopes import message
from transport.outage_watch import OutageWatch
from transport.registry import create
from transport.settings import TransportSettings
from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport


async def test_copies_that_fail_and_arrive_in_turn_are_two_lines(
    redis_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    settings = TransportSettings(
        transport="memory",
        transport_shadow="redis",
        redis_host=redis_proxy.host,
        redis_port=redis_proxy.port,
        redis_timeout_ms=1000,
        stream_partitions=2,
    )
    mirror = Mirror(
        create("redis", settings),
        primary="memory",
        settings=settings,
        outages=OutageWatch(lambda: now),
    )
    caplog.set_level(logging.INFO, "transport.shadow")
    async with ShadowTransport(create("memory", settings), mirror) as transport:

        async def copy(content: str) -> None:
            await transport.publish([message(content, partition=0, of=transport)])
            await eventually(lambda: not mirror.status().waiting)

        await copy("before")
        for turn in range(3):
            redis_proxy.refuse()
            redis_proxy.reset()
            await transport.publish([message(f"held {turn}", partition=0, of=transport)])
            await eventually(lambda: mirror.status().error)
            redis_proxy.heal()
            await eventually(lambda: not mirror.status().waiting)
            now += 1.0
        now += 10.0
        await copy("after")
        await copy("last")
    begin, end = (record for record in caplog.records if record.name == "transport.shadow.mirror")
    assert begin.message.startswith("Copy to the shadow failed")
    assert "Redis can't be reached" in vars(begin)["error"]
    assert end.message == "The shadow takes copies again"
    assert vars(end)["seconds"] == 2.0
    assert vars(end)["failures"] >= 3
