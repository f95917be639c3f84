"""Leases that can't be renewed are told once for each outage."""

from __future__ import annotations

import pytest

from compose.local.valkey import ValkeyServer
from tests.transport.redis_backend import short_settings
from transport.conformance.member import Member, until
from transport.contract import WORKER_GROUP, Topic
from transport.errors import TransportError
from transport.redis import RedisTransport

PATIENCE = 30.0


async def test_an_outage_is_one_line_however_often_it_is_tried_again(
    own_redis: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Two outages in ten seconds are one: the server is unsteady."""
    async with RedisTransport.from_settings(short_settings(own_redis)) as log, Member(log):

        async def is_owned() -> bool:
            try:
                progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            except TransportError:
                return False
            return all(part.owner is not None for part in progress)

        def told() -> list[str]:
            lines = [record.getMessage() for record in caplog.records]
            return [line for line in lines if line.startswith("Lease renewal failed")]

        await until(is_owned, patience=PATIENCE)
        for _ in range(2):
            await own_redis.kill()
            await until(lambda: bool(told()), patience=PATIENCE)
            await own_redis.start()
            await until(is_owned, patience=PATIENCE)
    assert len(told()) == 1
