"""PostgreSQL answers and takes no rows: read-only, as providers make it when its disk is full."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from compose.local.ports import free_port
from persistence.database.pool import Pool
from tests.compose.test_guide_steps import BODY
from tests.support.eventually import eventually

_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def places(redis_settings, database_url) -> dict[str, str]:
    return {
        "REDIS_HOST": redis_settings.redis_host,
        "REDIS_PORT": str(redis_settings.redis_port),
        "REDIS_STREAM_DB": str(redis_settings.redis_stream_db),
        "DATABASE_URL": database_url,
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }


@pytest.fixture
async def api(crossfade, places) -> AsyncIterator[httpx.AsyncClient]:
    """A running service, and what speaks to it."""
    running = await crossfade("serve", **places)
    url = f"http://127.0.0.1:{places['PORT']}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as one:

        async def accepts() -> bool:
            try:
                return (await _post(one)).status_code == 202
            except httpx.TransportError:
                return False

        await eventually(accepts)
        yield one
    assert await running.terminate() == 0


async def _post(api: httpx.AsyncClient) -> httpx.Response:
    message = json.loads(BODY) | {"clientMessageId": str(uuid4())}
    return await api.post("/api/messages", json=message)


async def test_rows_that_a_read_only_database_refuses_are_told_and_come_later(
    crossfade, places, api, database_url: str, database_pool: Pool
) -> None:
    name = urlsplit(database_url).path[1:]

    async def health() -> list[dict[str, Any]]:
        return (await api.get("/api/console/status")).json()["health"]

    async def trouble() -> str | None:
        return next((it["text"] for it in await health() if "read-only" in it["text"]), None)

    async def row(message_id: str) -> str:
        return (await api.get(f"/api/messages/{message_id}")).json()["state"]

    await database_pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await database_pool.execute(_END)
    accepted = await _post(api)
    assert accepted.status_code == 202, "the log has it"
    message_id = accepted.json()["messageId"]
    await eventually(trouble)

    async def is_told_alone() -> bool:
        """A worker that can't write its heartbeat is not called dead."""
        told = [it["text"] for it in await health() if it["level"] in {"alarm", "warning"}]
        return not any("heard of" in text for text in told) and any(
            "is not moving: PostgreSQL takes no rows" in text for text in told
        )

    await eventually(is_told_alone)
    assert await row(message_id) == "pending"
    components = (await api.get("/readyz")).json()["components"]
    (database,) = [it for it in components if it["name"] == "database"]
    assert database["status"] == "degraded"
    assert "takes no rows: it is read-only" in database["detail"]
    reset = f"ALTER DATABASE {name} RESET default_transaction_read_only"
    remedy = f"BEGIN READ WRITE; {reset}; COMMIT"
    assert remedy in database["detail"]
    status = await crossfade("status", **places)
    assert await status.ends() == 1
    assert "PostgreSQL answers and takes no rows: it is read-only" in " ".join(status.text.split())
    doctor = await crossfade("doctor", **places)
    await doctor.ends()
    assert remedy in " ".join(doctor.text.split())
    await database_pool.execute(remedy)  # in a session that is read-only, as an operator's is

    async def is_stored() -> bool:
        return await row(message_id) == "persisted"

    async def is_calm() -> bool:
        return all(it["level"] not in {"alarm", "warning"} for it in await health())

    async def is_ready() -> bool:
        return (await api.get("/readyz")).json()["status"] == "ready"

    await eventually(is_stored)
    await eventually(is_calm)
    await eventually(is_ready)
