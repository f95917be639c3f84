"""Pages and the console's search may come from a standby; what decides never does."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.samples import message, placed
from tests.support.fault_proxy import FaultProxy
from tests.support.forked_service import ForkedService


@pytest.fixture
async def other_url(databases):
    """Another database, in place of a standby: what comes from it is told apart."""
    url = await databases.take()
    yield url
    await databases.give_back(url)


async def test_a_page_comes_from_the_read_url_and_a_message_does_not(
    database_url, other_url, redis_settings, tmp_path
) -> None:
    pool = await connect(PersistenceSettings(database_url=SecretStr(other_url)))
    there = message("only-there")
    await Writer(pool).write([placed(there)], None)
    await pool.close()
    service = ForkedService(
        "reads",
        "serve",
        tmp_path,
        {
            "DATABASE_URL": database_url,
            "DATABASE_READ_URL": other_url,
            "REDIS_HOST": redis_settings.redis_host,
            "REDIS_PORT": str(redis_settings.redis_port),
        },
    )
    await service.start()
    try:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            page = (await client.get("/api/conversations/conv/messages")).json()
            assert [item["messageId"] for item in page["items"]] == [there.message_id]
            assert (await client.get(f"/api/messages/{there.message_id}")).status_code == 404
    finally:
        await service.stop()


async def test_a_page_comes_from_the_primary_while_the_standby_gives_no_answer(
    database_url, redis_settings, postgres_server, tmp_path, eventually
) -> None:
    """Whether it is gone or hangs; and from the standby again when that is back."""
    pool = await connect(PersistenceSettings(database_url=SecretStr(database_url)))
    there = message("there")
    await Writer(pool).write([placed(there)], None)
    await pool.close()
    async with FaultProxy(postgres_server.host, postgres_server.port) as standby:
        address = database_url.replace(f":{postgres_server.port}/", f":{standby.port}/").replace(
            postgres_server.host, standby.host
        )
        service = ForkedService(
            "reads",
            "serve",
            tmp_path,
            {
                "DATABASE_URL": database_url,
                "DATABASE_READ_URL": address,
                "REDIS_HOST": redis_settings.redis_host,
                "REDIS_PORT": str(redis_settings.redis_port),
            },
        )
        await service.start()
        try:
            async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
                await _follow_the_standby(client, standby, there.message_id, eventually)
        finally:
            await service.stop()
    log = service.log_path.read_text()
    assert log.count("The server of DATABASE_READ_URL gives no answer") == 1


async def _follow_the_standby(client, standby: FaultProxy, there: str, eventually) -> None:
    async def page() -> int:
        found = await client.get("/api/conversations/conv/messages")
        if found.status_code == 200:
            assert [item["messageId"] for item in found.json()["items"]] == [there]
        return found.status_code

    async def state() -> str:
        components = (await client.get("/readyz")).json()["components"]
        found = next(it for it in components if it["name"] == "database of reads")
        assert not found["required"]
        return found["status"]

    async def is_up() -> bool:
        return await state() == "up"

    async def is_served() -> bool:
        return await page() == 200

    assert await page() == 200
    assert await state() == "up"
    standby.black_hole()
    await eventually(is_served)  # the connection that hangs is given up after one 503
    assert await page() == 200
    assert await state() == "degraded"
    standby.refuse()
    standby.reset()
    assert await page() == 200
    assert await state() == "degraded"
    standby.heal()
    await eventually(is_up)
    assert await page() == 200
