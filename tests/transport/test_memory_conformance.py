"""The memory transport passes the same conformance suite as the real ones."""

from __future__ import annotations

import pytest

from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.contract import Topic
from transport.log_name import LogName
from transport.memory import MemoryLog, MemoryTransport
from transport.settings import TransportSettings


@pytest.fixture
def backend() -> Backend:
    settings = TransportSettings(stream_partitions=4)
    log = MemoryLog(settings)
    five = TransportSettings(stream_partitions=5)
    other = MemoryTransport(five, LogName("memory", partitions=5))

    async def append_raw(partition: int, body: bytes) -> None:
        log.topics[Topic.MESSAGES][partition].append("key", body, {})

    return Backend(
        create=lambda: MemoryTransport(settings, log=log),
        features=MemoryTransport.features,
        append_raw=append_raw,
        create_other=lambda: other,
    )
