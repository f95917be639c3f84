"""A transport made of two is held to the suite of the one that it stands for."""

from __future__ import annotations

import pytest

from tests.shadow.scripted_transport import ScriptedTransport, hang, refuse, work
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.contract import Topic
from transport.memory import MemoryLog, MemoryTransport
from transport.settings import TransportSettings
from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport


@pytest.fixture(params=["async", "sync", "async-refusing", "async-hanging"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """In every mode, and beside a shadow that does nothing right."""
    mode, _, fault = request.param.partition("-")
    settings = TransportSettings(
        stream_partitions=4, transport_shadow_mode=mode, transport_shadow_flush_ms=0
    )
    log, second = MemoryLog(settings), MemoryLog(settings)
    behaviour = {"": work, "refusing": refuse, "hanging": hang}[fault]

    async def append_raw(partition: int, body: bytes) -> None:
        log.topics[Topic.MESSAGES][partition].append("key", body, {})

    def create() -> ShadowTransport:
        shadow = ScriptedTransport(MemoryTransport(settings, log=second), behaviour)
        mirror = Mirror(shadow, primary="memory", settings=settings)
        return ShadowTransport(MemoryTransport(settings, log=log), mirror)

    return Backend(
        create=create,
        features=MemoryTransport.features,
        append_raw=append_raw,
    )
