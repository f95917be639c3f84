"""Prometheus finds every process of a host, at whatever port its metrics ended up."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import httpx
import pytest

from compose.local.ports import free_port
from compose.process.metrics import process_metrics
from compose.process.scrape_targets import Targets
from otel.metrics_server import TARGETS, serve
from persistence.database.pool import connect
from persistence.fleet.heartbeat import Heartbeat, HeartbeatReport, Identity
from persistence.settings import PersistenceSettings


async def _arrive(pool, member: str, **changes) -> None:
    values = {
        "member": member, "role": "serve", "host": "here", "machine": None, "pid": os.getpid(),
        "version": "1", "api_url": "http://a", "metrics_url": "http://127.0.0.1:9090/metrics",
        "transport": "redis", "transport_shadow": None, "transport_shadow_mode": None,
        "consume_from": "redis", "started_at": datetime.now(UTC),
    }  # fmt: skip

    async def heard(_state) -> None:
        return None

    await Heartbeat(pool, Identity(**{**values, **changes}), HeartbeatReport, heard).beat()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:9091/metrics", "127.0.0.1:9091"),
        ("http://0.0.0.0:9090/metrics", "here:9090"),
        ("http://[::]:9090/metrics", "here:9090"),
        ("http://[::1]:9090/metrics", "[::1]:9090"),
        ("http://worker.internal:9090/metrics", "worker.internal:9090"),
    ],
)
async def test_an_address_is_one_that_can_be_scraped(database_pool, url, address):
    await _arrive(database_pool, "one", metrics_url=url, role="worker")
    targets = Targets(database_pool)
    await targets.refresh()
    assert (
        targets.answer() == f'[{{"targets":["{address}"],"labels":{{"role":"worker"}}}}]'.encode()
    )


async def test_any_process_lists_all_and_a_silent_one_stays_listed(database_pool):
    await _arrive(database_pool, "one")
    await _arrive(database_pool, "two", metrics_url="http://127.0.0.1:9091/metrics")
    await database_pool.execute(
        "UPDATE processes SET seen_at = now() - interval '1 hour' WHERE member = 'two'"
    )
    targets = Targets(database_pool)
    await targets.refresh()
    with serve(process_metrics(), "127.0.0.1", free_port(), targets=targets.answer) as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            answer = await client.get(TARGETS)
            assert (await client.get("/metrics")).text.startswith("# HELP")
    assert answer.headers["content-type"] == "application/json"
    found = [address for group in answer.json() for address in group["targets"]]
    assert found == ["127.0.0.1:9090", "127.0.0.1:9091"]


async def test_a_list_that_is_too_old_is_no_answer(database_pool):
    """503, upon which Prometheus keeps the list that it has: an empty one would drop them all."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    pool = await connect(PersistenceSettings(database_url=nowhere))
    targets = Targets(pool)
    await targets.refresh()
    with serve(process_metrics(), "127.0.0.1", free_port(), targets=targets.answer) as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            assert (await client.get(TARGETS)).status_code == 503
    pool.terminate()
    good = Targets(database_pool)
    await good.refresh()
    assert good.answer() == b"[]"
    old = Targets(database_pool, good_for=0.0)
    await old.refresh()
    assert old.answer() is None
