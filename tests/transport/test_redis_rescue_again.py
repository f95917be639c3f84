"""Another failover in the middle of a rescue: the next rescue has all records of the first."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from compose.local.valkey import ValkeyServer
from tests.support.appends import append, append_at_last, texts
from tests.transport.redis_failover import Failover, log_of
from transport.conformance.envelopes import messages

_RECENT = "transport.redis.rescue.recent_appends"


async def test_what_is_not_appended_again_yet_outlives_another_failover(
    failover: Failover, third: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outage took longer than ``REDIS_RESCUE_SECONDS``."""
    monkeypatch.setattr("transport.redis.rescue.rescue._RECORDS_PER_TURN", 2)
    async with log_of(failover) as log:
        await failover.cut()
        lost = [f"lost-{n}" for n in range(6)]
        await append(log, messages(lost, partition=0, of=log))
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 100.0)
        monkeypatch.setattr(f"{_RECENT}.time", later)
        log.on_rescued = lambda _: failover.proxy.hold(b"_append")
        await failover.promote()
        new = asyncio.create_task(append_at_last(log, "new"))
        await failover.proxy.held.wait()
        log.on_rescued = lambda _: None
        await failover.replica.kill()
        failover.proxy.lead_to(third.host, third.port)
        failover.proxy.release()
        failover.proxy.reset()
        await new
        assert await texts(log) == [*lost, "new"]
