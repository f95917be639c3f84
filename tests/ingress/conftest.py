"""The ingress on a real socket, in front of a real log and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from ingress.app import Ingress
from ingress.build import build
from ingress.settings import IngressSettings
from migration_guide.service import MigrationService
from otel.metrics import Metrics
from otel.tracing import start as tracing_start
from persistence.chain.kept_rows import KeptRows
from persistence.database.pool import Pool, connect
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.ingress.gated_log import GatedLog
from tests.payloads.stores import opened
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.uvicorn_server import run_uvicorn
from transport.contract import DLQ_GROUP, Topic, Transport
from transport.features.observed import ObservedTransport
from transport.registry import create
from transport.settings import TransportSettings

_TABLES = (
    "message_receipts", "messages", "message_positions", "dead_letters", "jobs", "fences",
    "log_positions", "log_chain",
    "operator_actions", "delivery_attempts", "processes", "tombstones",
    "row_archives",
)  # fmt: skip

JSON = {"Content-Type": "application/json"}
# For clients of http addresses. By default each client reads all certificates of the machine's
# authorities, in as much processor time as it takes to build the ingress.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def message(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A body as the guide has it."""
    return {
        "conversationId": "test_conv_001",
        "senderId": "user_001",
        "content": f"Hello! {number}",
        "contentType": "text",
        "clientMessageId": f"client_msg_{number:03}",
        "recipientIds": ["user_002"],
    } | changes


@dataclass
class Service:
    """One running ingress, and what a test needs to look behind it."""

    app: Ingress
    port: int
    client: httpx.AsyncClient
    transport: Transport
    pool: Pool
    metrics: Metrics = field(repr=False)
    tracing: tracing_start.Tracing = tracing_start.OFF
    payloads: PayloadStore | None = None

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        """``POST /api/messages``; header names have ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/api/messages", json=body, headers=named)

    async def rows(self) -> list[Any]:
        """Every row, in reading order."""
        async with self.pool.acquire() as connection:
            return await connection.fetch("SELECT * FROM messages ORDER BY seq")

    async def records(self) -> int:
        """How many records the log holds."""
        partitions = range(self.transport.partitions)
        return sum([len(await self.transport.read(Topic.MESSAGES, p)) for p in partitions])


# Where it matters how a request comes in, tests go through both doors; see
# `ingress.accept.hot_path`.
_BOTH_DOORS = {
    "test_accept",
    "test_compressed",
    "test_refusals",
    "test_wire",
    "test_overload",
    "test_group_commit",
    "test_traces",
    "test_garbage",
    "test_digests",
    "test_forms",
    "test_payloads",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the doors: the process's own, and in some modules plain ASGI too."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "door" in metafunc.fixturenames and not any("door" in mark.args[0] for mark in marks):
        both = metafunc.module.__name__.rpartition(".")[2] in _BOTH_DOORS
        metafunc.parametrize("door", ["protocol", "asgi"] if both else ["protocol"])


Start = Callable[..., Awaitable[Service]]


def serving(app: Any, door: str) -> AbstractAsyncContextManager[int]:
    """Serve ``app`` through this door; the port is yielded."""
    http = app.listener.connection if door == "protocol" else "httptools"
    return run_uvicorn(app, http=http, ws="none")


@pytest_asyncio.fixture(scope="module")
async def module_pool(databases: Databases) -> AsyncIterator[Pool]:
    """One database for a module."""
    url = await databases.take()
    pool = await connect(PersistenceSettings(database_url=url))
    yield pool
    await pool.close()
    await databases.give_back(url)


@pytest_asyncio.fixture
async def database_pool(module_pool: Pool) -> Pool:
    """The module's database, empty."""
    async with module_pool.acquire() as connection:
        for table in _TABLES:
            await connection.execute(f"DELETE FROM {table}")
    return module_pool


@pytest_asyncio.fixture
async def launch(database_pool: Pool, door: str) -> AsyncIterator[Start]:
    """Start an ingress in front of a given ``transport``; keyword arguments are its settings."""
    async with AsyncExitStack() as stack:

        async def make(
            *,
            transport: Transport,
            pool: Pool | None = None,
            tracing: tracing_start.Tracing = tracing_start.OFF,
            payloads: PayloadStore | None = None,
            kept: KeptRows | None = None,
            **settings: Any,
        ) -> Service:
            pool = pool or database_pool
            if observers := tracing.append_observers(transport.name):
                transport = ObservedTransport(transport, observers)
            metrics = Metrics()
            app = build(
                settings=IngressSettings(**settings),
                transport=transport,
                pool=pool,
                metrics=metrics,
                tracer=tracing.requests,
                migration=MigrationService(pool, TransportSettings(), trace_url=None),
                payloads=payloads,
                kept=kept,
            )
            port = await stack.enter_async_context(serving(app, door))
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", timeout=30, verify=_NO_AUTHORITIES
                )
            )
            if isinstance(transport, GatedLog):
                stack.callback(transport.gate.set)  # or a failed test would wait for its requests
            return Service(app, port, client, transport, pool, metrics, tracing, payloads)

        yield make


@pytest_asyncio.fixture
async def log(transport_settings: TransportSettings) -> AsyncIterator[Transport]:
    """The default log, empty."""
    async with create("redis", transport_settings) as transport:
        yield transport


@pytest_asyncio.fixture
async def redis(transport_settings: TransportSettings) -> AsyncIterator[Redis]:
    """A client of the log's server, for what another program may do there."""
    async with Redis(
        host=transport_settings.redis_host,
        port=transport_settings.redis_port,
        db=transport_settings.redis_stream_db,
    ) as client:
        yield client


@pytest_asyncio.fixture
async def start(log: Transport, launch: Start) -> Start:
    """Start an ingress in front of the default log."""

    async def make(**settings: Any) -> Service:
        return await launch(**{"transport": log} | settings)

    return make


@pytest.fixture
def store(tmp_path: Path) -> PayloadStore:
    """A payload store in a folder."""
    return opened(f"file://{tmp_path}/payloads")


@pytest_asyncio.fixture
async def service(start: Start) -> Service:
    """An ingress with the default settings."""
    return await start()


@asynccontextmanager
async def working(service: Service, **settings: Any) -> AsyncIterator[Worker]:
    """Run a worker beside ``service`` while the block runs."""
    stop = asyncio.Event()
    worker = Worker(
        transport=service.transport,
        pool=service.pool,
        settings=PersistenceSettings(**settings),
        metrics=service.metrics,
        member="test",
        deliveries=service.tracing.deliveries,
        payloads=service.payloads,
    )
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task


@pytest.fixture
def index_dead_letters() -> Callable[[Service], Awaitable[None]]:
    """Run the indexer until every dead letter in the log has its row."""

    async def index(service: Service) -> None:
        stop = asyncio.Event()
        indexer = DeadLetterIndexer(
            transport=service.transport,
            pool=service.pool,
            settings=PersistenceSettings(),
            metrics=service.metrics,
            member="test",
        )
        task = asyncio.create_task(indexer.run(stop))

        async def done() -> bool:
            (progress,) = await service.transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
            return progress.lag == 0

        try:
            await eventually(done)
        finally:
            stop.set()
            await task

    return index


@pytest.fixture
def gated(log: Transport) -> GatedLog:
    """The default log, whose appends the test lets through."""
    return GatedLog(log)
