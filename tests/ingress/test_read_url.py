"""Pages and the console's search may come from a standby; what decides never does."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.samples import message, placed
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
