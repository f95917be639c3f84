"""A primary that answers its readers and takes no appends: what an operator is told of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from tests.compose.test_guide_steps import BODY
from tests.support.eventually import eventually


@pytest.fixture
async def client(places) -> AsyncIterator[Redis]:
    async with Redis(host=places["REDIS_HOST"], port=int(places["REDIS_PORT"])) as one:
        yield one


@pytest.fixture
async def api(crossfade, places) -> AsyncIterator[httpx.AsyncClient]:
    """A running service, and what speaks to it."""
    running = await crossfade("serve", **places)
    url = f"http://127.0.0.1:{places['PORT']}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as one:

        async def accepts() -> bool:
            try:
                return await _post(one) == 202
            except httpx.TransportError:
                return False

        await eventually(accepts)
        yield one
    assert await running.terminate() == 0


async def _post(api: httpx.AsyncClient) -> int:
    message = json.loads(BODY) | {"clientMessageId": str(uuid4())}
    return (await api.post("/api/messages", json=message)).status_code


@pytest.mark.parametrize("asked", ["/api/messages", "/readyz"])
async def test_a_primary_that_refuses_appends_is_an_alarm_until_it_takes_them(
    crossfade, places, client, api, asked
):
    """A balancer that sees it unready sends no POSTs any more: its probes are enough."""

    async def ask() -> int:
        return await _post(api) if asked == "/api/messages" else (await api.get(asked)).status_code

    async def health() -> list[dict[str, Any]]:
        return (await api.get("/api/console/status")).json()["health"]

    async def alarm() -> str | None:
        assert await ask() == 503
        return next((it["text"] for it in await health() if it["level"] == "alarm"), None)

    await client.config_set("maxmemory", 1)
    text = await eventually(alarm)
    assert text.startswith("redis refuses messages of 1 process, for ")
    assert "maxmemory" in text
    assert "POSTs are answered 503" in text
    shown = await crossfade("status", **places)
    assert await shown.ends() == 1
    (line,) = [line for line in shown.lines if "redis refuses messages" in line]
    assert line.startswith("alarm ")
    assert "Everything that redis has is persisted" not in shown.text
    assert "crossfade doctor" in shown.text

    await client.config_set("maxmemory", 0)

    async def calm() -> bool:
        await ask()
        return [it["level"] for it in await health()] == ["ok"]

    await eventually(calm)
