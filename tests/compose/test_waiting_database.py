"""PostgreSQL answers, and each statement of the workers waits: for a standby, or for a lock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import asyncpg
import httpx
import pytest

from compose.local.ports import free_port
from compose.local.postgres import PostgresServer
from persistence import migrate
from tests.compose.test_guide_steps import BODY
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually


class Stand:
    """A service on a PostgreSQL of its own, and an administrator's session."""

    def __init__(self, places: dict[str, str], admin: asyncpg.Connection) -> None:
        self.places, self.admin = places, admin
        self.api = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{places['PORT']}", trust_env=False, timeout=20
        )

    async def post(self) -> int:
        body = json.loads(BODY) | {"clientMessageId": str(uuid4())}
        return (await self.api.post("/api/messages", json=body)).status_code

    async def rows(self) -> int:
        return await self.admin.fetchval("SELECT count(*) FROM messages")

    async def says(self, what: str) -> str | None:
        """Return what ``/readyz`` says of the database once that has ``what`` in it."""
        told = await self.told()
        return told if told and what in told else None

    async def told(self) -> str | None:
        """What ``/readyz`` says of the database where it is not up."""
        components = (await self.api.get("/readyz")).json()["components"]
        (database,) = [it for it in components if it["name"] == "database"]
        return None if database["status"] == "up" else database["detail"]


@pytest.fixture
async def stand(
    new_postgres: Callable[..., Awaitable[PostgresServer]], redis_settings, tmp_path
) -> AsyncIterator[Stand]:
    server = await new_postgres(max_prepared_transactions="1")
    url = await server.create_database("crossfade")
    await migrate.upgrade(url)
    places = {
        "REDIS_HOST": redis_settings.redis_host,
        "REDIS_PORT": str(redis_settings.redis_port),
        "REDIS_STREAM_DB": str(redis_settings.redis_stream_db),
        "DATABASE_URL": url,
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }
    running = await Crossfade.fork("serve", cwd=tmp_path, **places)
    admin = await asyncpg.connect(url)
    made = Stand(places, admin)
    try:
        await running.says("Worker started for partition 0")
        yield made
    finally:
        await made.api.aclose()
        await admin.close()
        await running.kill()


async def output_of(command: str, stand: Stand, folder) -> str:
    process = await Crossfade.fork(command, cwd=folder, **stand.places)
    await process.ends()
    return " ".join(process.text.split())


async def test_a_commit_that_waits_for_a_synchronous_standby_is_told(stand, tmp_path):
    """Its heartbeats wait too, so it looks dead to others."""
    await stand.admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
    await stand.admin.execute("SELECT pg_reload_conf()")
    name = "SHOW synchronous_standby_names"

    async def is_set() -> bool:
        return await stand.admin.fetchval(name) == "ghost"

    await eventually(is_set)
    assert await stand.post() == 202
    why = "for a synchronous standby (synchronous_standby_names = ghost)"
    told = await eventually(lambda: stand.says(why))
    assert "Bring that standby back" in told
    assert await stand.rows() == 0
    for command in ("status", "doctor"):
        said = await output_of(command, stand, tmp_path)
        assert why in said, command
        assert "it died" not in said
    await stand.admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
    await stand.admin.execute("SELECT pg_reload_conf()")
    await eventually(stand.rows)
    await eventually(lambda: is_up(stand))


async def test_a_lock_that_somebody_holds_is_told_with_its_holder(stand, tmp_path):
    other = await asyncpg.connect(
        stand.places["DATABASE_URL"], server_settings={"application_name": "psql of bob"}
    )
    hold = other.transaction()
    await hold.start()
    await other.execute("LOCK TABLE messages IN SHARE MODE")
    pid = other.get_server_pid()
    assert await stand.post() == 202
    why = f"PostgreSQL's process {pid} (crossfade; psql of bob; idle in transaction"
    told = await eventually(lambda: stand.says(why))
    assert f"SELECT pg_terminate_backend({pid})" in told
    assert await stand.rows() == 0
    said = await output_of("status", stand, tmp_path)
    assert "PostgreSQL answers and takes no rows: a statement has waited" in said
    await stand.admin.execute(f"SELECT pg_terminate_backend({pid})")
    await eventually(stand.rows)
    await eventually(lambda: is_up(stand))
    await other.close()


async def test_a_lock_of_a_prepared_transaction_is_told(stand):
    await stand.admin.execute("BEGIN; LOCK TABLE messages IN SHARE MODE; PREPARE TRANSACTION 'old'")
    assert await stand.post() == 202
    told = await eventually(lambda: stand.says("a prepared transaction holds"))
    assert "ROLLBACK PREPARED" in told
    await stand.admin.execute("ROLLBACK PREPARED 'old'")
    await eventually(stand.rows)


async def is_up(stand: Stand) -> bool:
    return await stand.told() is None
