"""A process with a shadow: what it says of it, and what it does while the shadow is away."""

from __future__ import annotations

import json

import httpx
import pytest
import structlog

from compose.local.ports import free_port
from compose.process import settings_warnings
from tests.compose.test_guide_steps import BODY, JSON
from tests.support.eventually import eventually
from tests.support.kafka import require_kafka
from transport.contract import Topic
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        return await client.get(url)


async def _post(api: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=20) as client:
        return await client.post(f"{api}/api/messages", content=BODY, headers=JSON)


@pytest.fixture
def places(places) -> dict[str, str]:
    """Settings for a Redis of the test's own, and for a Kafka that is not there."""
    return {
        **places,
        "TRANSPORT_SHADOW": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
    }


async def _alive(api: str) -> bool:
    try:
        return (await _get(f"{api}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_an_async_shadow_that_is_away_degrades_and_is_noted(crossfade, places, database_pool):
    api = f"http://127.0.0.1:{places['PORT']}"
    running = await crossfade("serve", **places)
    await eventually(lambda: _alive(api))
    assert (await _post(api)).status_code == 202
    ready = await _get(f"{api}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    (shadow,) = [c for c in ready.json()["components"] if c["name"] == "shadow (kafka, async)"]
    assert (shadow["status"], shadow["required"]) == ("degraded", False)
    assert "1 copies wait" in shadow["detail"]

    async def shown() -> bool:
        status = await crossfade("status", "--json", **places)
        await status.ends()
        (one,) = json.loads(status.text)["shadow"]["processes"].values()
        return one["waiting"] == 1 and one["breaker"] == "open"

    await eventually(shown)
    assert await running.terminate() == 0
    (gap,) = await database_pool.fetch("SELECT * FROM shadow_gaps")
    assert (gap["transport"], gap["shadow"], gap["kind"]) == ("redis", "kafka", "closed")
    assert (gap["records"], gap["repaired_at"]) == (1, None)
    status = await crossfade("status", **places)
    await status.ends()
    assert "missed and not repaired: 1, as a process stopped before they were sent" in status.text


async def test_without_a_sync_shadow_nothing_is_accepted(crossfade, places):
    api = f"http://127.0.0.1:{places['PORT']}"
    running = await crossfade("serve", **places, TRANSPORT_SHADOW_MODE="sync")
    await eventually(lambda: _alive(api))
    refused = await _post(api)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    ready = await _get(f"{api}/readyz")
    assert ready.status_code == 503
    (shadow,) = [c for c in ready.json()["components"] if c["name"] == "shadow (kafka, sync)"]
    assert (shadow["status"], shadow["required"]) == ("down", True)
    assert await running.terminate() == 0


async def test_up_starts_the_shadows_server_too(up):
    await require_kafka()
    running, api, _ = await up(TRANSPORT_SHADOW="kafka", TRANSPORT_SHADOW_MODE="sync")
    kafka = (await running.says(r"Shadow +kafka (\S+) +sync"))[1]
    assert (await _post(api)).status_code == 202
    async with KafkaTransport(TransportSettings(kafka_bootstrap_servers=kafka)) as log:
        found = [r for p in range(16) for r in await log.read(Topic.MESSAGES, p)]
    (copy,) = found
    assert copy.headers["mirrorOf"].startswith(b"redis:")
    assert copy.headers["shadowMode"] == b"sync"
    ready = (await _get(f"{api}/readyz")).json()
    assert [c["status"] for c in ready["components"] if c["name"].startswith("shadow")] == ["up"]
    assert await running.interrupt() == 0


async def test_a_copy_that_is_read_but_not_waited_for_is_warned_of_at_start(crossfade, places):
    """By hand only: a message whose copy is dropped becomes a row from the primary, and late."""
    running = await crossfade("serve", CONSUME_FROM="kafka", LOG_FORMAT="json", **places)
    warned = json.loads((await running.says(r"(\{.*Workers read kafka.*\})"))[1])
    assert warned["level"] == "warning"
    assert "leaves its message in redis only" in warned["event"]
    for remedy in ("TRANSPORT_SHADOW_MODE=sync", "CONSUME_FROM=redis"):
        assert remedy in warned["remedy"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"transport_shadow": "kafka"}, None),
        ({"transport_shadow": "kafka", "transport_shadow_mode": "sync"}, None),
        (
            {
                "transport_shadow": "kafka",
                "transport_shadow_mode": "sync",
                "consume_from": "kafka",
            },
            None,
        ),
        ({"consume_from": "kafka"}, "written to redis, which is not copied there"),
        ({"transport_shadow": "kafka", "consume_from": "memory"}, "not copied there"),
    ],
)
def test_settings_that_leave_nothing_late_are_not_warned_of(settings, said):
    with structlog.testing.capture_logs() as logs:
        settings_warnings.warn(TransportSettings(transport="redis", **settings))
    assert len(logs) == (said is not None)
    assert all(said in log["event"] and "CONSUME_FROM=redis" in log["remedy"] for log in logs)
