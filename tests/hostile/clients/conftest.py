"""One real ``crossfade serve`` for the clients of a file, on a real Valkey and PostgreSQL."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from persistence.database.pool import Pool, connect
from persistence.settings import PersistenceSettings
from tests.hostile.clients.java_programs import JavaPrograms
from tests.support.databases import Databases
from tests.support.forked_service import ForkedService
from tests.support.requirements import program
from tests.support.services import RedisAddress


@dataclass
class Served:
    """A running service and its database."""

    service: ForkedService
    pool: Pool

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def port(self) -> int:
        return self.service.port


@pytest_asyncio.fixture(scope="module")
async def served_settings(
    new_module_redis: ValkeyServer | RedisAddress, databases: Databases
) -> AsyncIterator[dict[str, str]]:
    """Settings of one Redis and one database for the processes of a file."""
    url = await databases.take()
    yield {
        "REDIS_HOST": new_module_redis.host,
        "REDIS_PORT": str(new_module_redis.port),
        "DATABASE_URL": url,
        "LOG_FORMAT": "json",
    }
    await databases.give_back(url)


@pytest_asyncio.fixture(scope="module")
async def new_module_redis(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[ValkeyServer]:
    """A Redis of the file's own: what other tests leave in a shared one is not its messages."""
    server = ValkeyServer(tmp_path_factory.mktemp("redis") / "data")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def served_pool(served_settings: dict[str, str]) -> AsyncIterator[Pool]:
    """A pool on the database of the file."""
    pool = await connect(PersistenceSettings(database_url=served_settings["DATABASE_URL"]))
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="module")
async def served(
    served_settings: dict[str, str], served_pool: Pool, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """``crossfade serve`` with its default settings, but for where its servers are."""
    folder: Path = tmp_path_factory.mktemp("served")
    async with AsyncExitStack() as stack:
        service = ForkedService("serve", "serve", folder, dict(served_settings))
        stack.push_async_callback(service.stop)
        await service.start()
        yield Served(service, served_pool)


class GoClient:
    """The Go program, compiled. Go's standard library is all that it needs."""

    def __init__(self, folder: Path) -> None:
        self._built = folder / "client"
        source = Path(__file__).with_name("programs") / "client.go"
        command = [program("go", package="golang"), "build", "-o", str(self._built), str(source)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert result.returncode == 0, result.stderr

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs it."""
        return [str(self._built), *arguments]


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> GoClient:
    return GoClient(tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> JavaPrograms:
    return JavaPrograms(tmp_path_factory.mktemp("java"))
