"""The last hour is kept without any viewer, bounded, with gaps for unknown values."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingress.console.last_hour import LastHour
from ingress.console.readings import WatchedLog
from ingress.console.sampler import Sampler
from persistence.database.pool import Pool
from tests.ingress.conftest import Service, message
from tests.support.eventually import eventually
from transport.contract import Transport
from transport.message.envelope import Message, seal_message


async def test_points_are_kept_while_nobody_looks_and_the_oldest_are_dropped(
    log: Transport, database_pool: Pool
) -> None:
    watched = [WatchedLog(log, ("primary", "consumed"))]
    sampler = Sampler(watched, database_pool, seen_by="test", interval=0.01)
    hour = LastHour(sampler, seen_by="test", grafana_url=None, step=0.05, points=4)
    hour.start()
    try:
        waits = Message("c", "s", "1", "x", "text", message_id="m", idempotency_key="k")
        await log.publish([seal_message(waits, partitions=log.partitions, traceparent=None)])
        await eventually(lambda: _seen(hour, waiting=1))
        assert len(hour.view().points) <= 4
        times = [point.at for point in hour.view().points]
        assert times == sorted(set(times))
        # What the minutes' lines are drawn from is left as it was: a point a second, or none.
        assert (await sampler.status()).history[:-1] == []
    finally:
        await hour.close()
        await sampler.close()


async def _seen(hour: LastHour, **wanted: Any) -> bool:
    points = hour.view().points
    return bool(points) and all(getattr(points[-1], name) == it for name, it in wanted.items())


async def test_what_is_not_known_is_a_gap_and_the_next_point_comes_all_the_same(
    log: Transport, database_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = [WatchedLog(log, ("primary", "consumed"))]
    sampler = Sampler(watched, database_pool, seen_by="test", interval=0.01)
    hour = LastHour(sampler, seen_by="test", grafana_url=None, step=0.05)
    hour.start()
    try:
        await eventually(lambda: _seen(hour, waiting=0, dead_letters=0))
        progress = log.progress

        async def gone(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(60)

        monkeypatch.setattr(log, "progress", gone)
        await eventually(lambda: _seen(hour, waiting=None, accepted=None, dead_letters=0))
        monkeypatch.setattr(log, "progress", progress)
        await eventually(lambda: _seen(hour, waiting=0))
    finally:
        await hour.close()
        await sampler.close()


async def test_the_hour_is_told_with_where_more_can_be_seen(start: Any) -> None:
    service: Service = await start(ingress_grafana_url="https://grafana.test/d/crossfade")
    await service.post(message())
    hour = (await service.client.get("/api/console/hour")).json()
    assert hour == {
        "seenBy": "this process", "stepSeconds": 10.0, "points": [],
        "grafanaUrl": "https://grafana.test/d/crossfade",
    }  # fmt: skip
