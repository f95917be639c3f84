"""One real service with an API key, and its document, for the clients of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from persistence.database.pool import Pool
from tests.generated_clients.contract import LETTER
from tests.hostile.clients.conftest import (  # noqa: F401 - fixtures
    new_module_redis,
    served_pool,
    served_settings,
)
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from transport.contract import Envelope
from transport.registry import create
from transport.settings import TransportSettings

KEY = "cf_generated-clients"


@dataclass
class Served:
    """A running service: where it is, its key, and its document as a file."""

    url: str
    key: str
    document: Path


@pytest_asyncio.fixture(scope="module")
async def served(
    served_settings: dict[str, str],  # noqa: F811
    served_pool: Pool,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Served]:
    """``crossfade serve``, with one dead letter that has a large number."""
    folder = tmp_path_factory.mktemp("served")
    digest = sha256(KEY.encode()).hexdigest()
    settings = {**served_settings, "API_KEYS": f"all:produce+read+admin:{digest}"}
    await served_pool.execute(f"ALTER TABLE dead_letters ALTER id RESTART WITH {LETTER}")
    service = ForkedService("serve", "serve", folder, settings)
    try:
        await service.start()
        await _dead_letter(served_settings, served_pool)
        document = folder / "openapi.json"
        async with httpx.AsyncClient() as client:
            document.write_bytes((await client.get(f"{service.url}/openapi.json")).content)
        yield Served(service.url, KEY, document)
    finally:
        await service.stop()


async def _dead_letter(settings: dict[str, str], pool: Pool) -> None:
    """Append a record that is no message, and wait until it is a dead letter."""
    record = Envelope("raw", partition=0, key="c", body=b"no message", headers={})
    where = TransportSettings(
        redis_host=settings["REDIS_HOST"], redis_port=int(settings["REDIS_PORT"])
    )
    async with create("redis", where) as log:
        await log.publish([record])

    async def there() -> bool:
        return await pool.fetchval("SELECT count(*) FROM dead_letters") == 1

    await eventually(there)
