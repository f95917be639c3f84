"""One real ``crossfade serve`` for all clients, on a real Valkey and PostgreSQL; and its faults."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from crossfade import AsyncClient, Client
from persistence.database.pool import Pool, connect
from persistence.settings import PersistenceSettings
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.forked_service import ForkedService
from tests.support.requirements import absent, program

ROOT = Path(__file__).parents[2] / "clients" / "typescript"
"""The folder of the TypeScript client."""
API_KEY = "cf_the-key-of-these-tests"
PRODUCER_KEY = "cf_one-that-may-not-read"
KEYS = {API_KEY: "produce+read", PRODUCER_KEY: "produce"}
ITEMS_IN_A_BATCH = 200
"""Fewer than the clients think: they find out."""


@dataclass
class Site:
    """The service, what stands before and behind it, and its rows."""

    service: ForkedService
    front: FaultProxy
    """Between clients and the service."""
    log: FaultProxy
    """Between the service and its log."""
    pool: Pool
    environment: dict[str, str]
    """What a client program needs to know."""

    @property
    def url(self) -> str:
        """Where the service is, past the proxy in front of it."""
        return f"http://127.0.0.1:{self.front.port}"

    async def rows(self, conversation: str, at_least: int = 0) -> list[str]:
        """Return the contents of a conversation in its order, once there are so many."""

        async def enough() -> bool:
            return await self._count(conversation) >= at_least

        await eventually(enough)
        found = await self.pool.fetch(
            "SELECT content FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
        )
        return [row["content"] for row in found]

    async def _count(self, conversation: str) -> int:
        query = "SELECT count(*) FROM messages WHERE conversation_id = $1"
        return int(await self.pool.fetchval(query, conversation))


@pytest_asyncio.fixture(scope="package")
async def clients_site(
    tmp_path_factory: pytest.TempPathFactory, postgres_server, database_template: str
) -> AsyncIterator[Site]:
    name = f"client_{os.getpid()}"
    url = await postgres_server.create_database(name, template=database_template)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(postgres_server.drop_database, name)
        folder = tmp_path_factory.mktemp("clients")
        valkey = ValkeyServer(folder / "redis")
        stack.push_async_callback(valkey.stop)
        await valkey.start()
        log = await stack.enter_async_context(FaultProxy(valkey.host, valkey.port))
        environment = {
            "REDIS_HOST": log.host,
            "REDIS_PORT": str(log.port),
            "DATABASE_URL": url,
            "PAYLOAD_STORE": f"file://{folder}/payloads",
            "API_KEYS": ",".join(
                f"key-{number}:{scope}:{sha256(key.encode()).hexdigest()}"
                for number, (key, scope) in enumerate(KEYS.items())
            ),
        }
        limits = {"INGRESS_MAX_BATCH_ITEMS": str(ITEMS_IN_A_BATCH), "STREAM_MAX_RETRIES": "1"}
        service = ForkedService("serve", "serve", folder, environment | limits)
        stack.push_async_callback(service.stop)
        await service.start()
        front = await stack.enter_async_context(FaultProxy("127.0.0.1", service.port))
        pool = await connect(PersistenceSettings(database_url=url))
        stack.push_async_callback(pool.close)
        yield Site(service, front, log, pool, environment)


@pytest.fixture
def site(clients_site: Site) -> AsyncIterator[Site]:
    """The site, with nothing wrong before and after."""
    yield clients_site
    clients_site.front.heal()
    clients_site.log.heal()


@pytest.fixture(scope="session")
def compiled() -> Path:
    """The folder of the client, with ``dist`` made of its sources as they are now."""
    program("node", package="nodejs")
    npm = program("npm", package="npm")
    compiler = ROOT / "node_modules" / ".bin" / "tsc"
    if not compiler.exists():
        install = [npm, "install"]
        done = subprocess.run(install, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            absent(f"npm can't install the compiler: {done.stderr.strip()[-500:]}")
    build = [npm, "run", "build"]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout
    return ROOT


class InThreads:
    """The synchronous client, called from coroutines as the asynchronous one is."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **options)

        return call

    async def _all(self, method: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        for item in await asyncio.to_thread(lambda: list(method(*arguments, **options))):
            yield item

    def pages(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        return self._all(self._client.pages, *arguments, **options)

    def messages(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        return self._all(self._client.messages, *arguments, **options)


@dataclass
class Make:
    """Makes clients of one kind. ``statuses`` are those of all answers they got."""

    kind: str
    site: Site
    stack: AsyncExitStack
    statuses: list[int] = field(default_factory=list)

    async def __call__(self, url: str = "", *, api_key: str = API_KEY, **options: Any) -> Any:
        url = url or self.site.url
        if self.kind == "async":
            http = httpx.AsyncClient(event_hooks={"response": [self._note_later]})
            self.stack.push_async_callback(http.aclose)
            return AsyncClient(url, api_key=api_key, http=http, **options)
        sync = self.stack.enter_context(httpx.Client(event_hooks={"response": [self._note]}))
        return InThreads(Client(url, api_key=api_key, http=sync, **options))

    def _note(self, response: httpx.Response) -> None:
        self.statuses.append(response.status_code)

    async def _note_later(self, response: httpx.Response) -> None:
        self._note(response)


@pytest_asyncio.fixture(params=["sync", "async"])
async def make(request: pytest.FixtureRequest, site: Site) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:
        yield Make(request.param, site, stack)


@pytest.fixture
def conversation(request: pytest.FixtureRequest) -> str:
    """An id of the test's own."""
    return f"of {request.node.name}/?#%"[:200]
