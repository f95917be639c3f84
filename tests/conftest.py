"""Real servers for every test. Parts add fixtures of their own in ``tests/<part>/conftest.py``."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from compose.local.postgres import PostgresServer
from compose.local.seaweed import SeaweedServer
from compose.local.valkey import ValkeyServer
from compose.process.metrics import process_metrics
from otel.metrics import Metrics
from tests.support import stream_origins
from tests.support.containers import RedisContainer
from tests.support.databases import Databases
from tests.support.eventually import eventually as wait_until
from tests.support.kafka import KafkaNode, mended, run_shared_kafka
from tests.support.postgres_pair import DATABASE
from tests.support.scheduling import SharedServers, mixed, rotated
from tests.support.services import (
    PostgresAddress,
    RedisAddress,
    empty_redis,
    redis_servers,
    run_postgres,
    run_redis,
    run_s3,
)
from transport.settings import TransportSettings

# Settings that a developer's shell may hold must not reach a test that did not ask for them.
_OURS = (
    "TRANSPORT", "CONSUME_FROM", "REDIS_", "KAFKA_", "STREAM_", "INGRESS_", "API_KEYS",
    "DATABASE_", "ENABLE_STREAM_CONSUMERS", "IDEMPOTENCY_", "METRICS_", "LOG_", "OTEL_", "HOST",
    "PORT", "CROSSFADE_", "PAYLOAD_", "AWS_",
)  # fmt: skip
_numbers = itertools.count(1)
stream_origins.install()
# The garbage collector looks at new objects after so many, not after 700: a test makes thousands
# of objects and few cycles, and the collector took a sixth of its processor time.
_YOUNG_OBJECTS = 10_000


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedServers | None:
    return SharedServers(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    """Let each of several processes compile other files first, and find the rest compiled.

    In a fresh checkout pytest compiles every test, which takes longer than all else of collecting.
    """
    share = getattr(config, "workerinput", None)
    if share and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        number = int(share["workerid"].removeprefix("gw"))
        config.args = rotated(config.rootpath / "tests", number, share["workercount"])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Mix heavy and light files where several processes share them; in each of them alike."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.nodeid.partition("::")[0])
    yield
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: mixed(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Keep what is collected from the garbage collector: it lives as long as the process.

    Looking through it takes two fifths of the time of collecting, and a tenth of a second each time
    that a test has made enough.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        gc.enable()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[Any]]:
    return wait_until


@pytest_asyncio.fixture(scope="session", params=redis_servers()[:1])
async def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ValkeyServer | RedisContainer | RedisAddress]:
    """One, durable; shared by the session.

    The transport's own tests run on each that can be had: what is above
    it meets a server only through the ``Transport``.
    """
    async with run_redis(request.param, tmp_path_factory.mktemp("redis") / "data") as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def kafka_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaNode]:
    """One Kafka for all tests of a process: each has topics of its own.

    An idle node takes 2 % of a processor, and one that was just started runs slowly.
    """
    async with run_shared_kafka(tmp_path_factory.mktemp("kafka")) as node:
        yield node


@pytest_asyncio.fixture
async def kafka_server(kafka_node: KafkaNode) -> KafkaNode:
    """The shared node, running; stop, kill and suspend it as you like."""
    return await mended(kafka_node)


@pytest_asyncio.fixture(scope="session")
async def postgres_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[PostgresServer | PostgresAddress]:
    """One PostgreSQL, fsync on; shared by the session."""
    async with run_postgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def s3_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedServer]:
    """A real S3 server, shared by the session. It takes 3 s to start, most of it waiting."""
    async with run_s3(tmp_path_factory.mktemp("s3") / "data") as server:
        yield server


@pytest.fixture
def s3_settings(s3_server: SeaweedServer) -> dict[str, str]:
    """Settings for payloads in S3, under a prefix of the test's own."""
    return s3_server.settings(f"test-{next(_numbers)}")


@pytest_asyncio.fixture(scope="session")
async def database_template(
    postgres_server: PostgresServer | PostgresAddress,
) -> AsyncIterator[str]:
    """The name of a migrated, empty database that nothing is connected to."""
    from persistence.migrate import upgrade  # noqa: PLC0415 - tests of the transport do without

    name = f"template_{os.getpid()}"
    url = await postgres_server.create_database(name)
    await upgrade(url)
    yield name
    await postgres_server.drop_database(name)


@pytest_asyncio.fixture(scope="session")
async def databases(
    postgres_server: PostgresServer | PostgresAddress, database_template: str
) -> AsyncIterator[Databases]:
    """Migrated, empty databases to take and give back."""
    made = Databases(postgres_server, database_template)
    yield made
    await made.drop_all()


@pytest_asyncio.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    url = await databases.take()
    yield url
    await databases.give_back(url)


@pytest_asyncio.fixture
async def database_pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on ``database_url``, as the service makes it."""
    from persistence.database.pool import connect  # noqa: PLC0415
    from persistence.settings import PersistenceSettings  # noqa: PLC0415

    pool = await connect(PersistenceSettings(database_url=database_url))
    yield pool
    await pool.close()


@pytest_asyncio.fixture
async def redis_settings(
    redis_server: ValkeyServer | RedisContainer | RedisAddress,
) -> TransportSettings:
    """Settings for an empty Redis."""
    await empty_redis(redis_server)
    if not isinstance(redis_server, RedisAddress):
        return TransportSettings(redis_host=redis_server.host, redis_port=redis_server.port)
    return TransportSettings(
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        redis_username=redis_server.username,
        redis_password=redis_server.password,
        redis_tls=redis_server.tls,
        redis_stream_db=redis_server.db,
    )


@pytest.fixture
def transport_settings(redis_settings: TransportSettings) -> TransportSettings:
    """Settings for the default transport, empty."""
    return redis_settings


@pytest.fixture
def metrics() -> Metrics:
    return process_metrics()


@pytest_asyncio.fixture
async def new_redis(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[ValkeyServer]]]:
    """Start a Redis of the test's own: to stop, kill, suspend and restart. ``**config`` goes in."""
    async with AsyncExitStack() as stack:

        async def make(**config: str) -> ValkeyServer:
            options = {key.replace("_", "-"): value for key, value in config.items()}
            server = ValkeyServer(tmp_path / f"redis-{next(_numbers)}" / "data", config=options)
            stack.push_async_callback(server.stop)
            await server.start()
            return server

        yield make


@pytest_asyncio.fixture(scope="session")
async def initialized_postgres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as initdb left it, to copy: initdb takes a second, a copy a tenth of one."""
    data_dir = tmp_path_factory.mktemp("initdb") / "data"
    await PostgresServer(data_dir).initialize()
    return data_dir


@pytest_asyncio.fixture(scope="session")
async def migrated_postgres(
    initialized_postgres: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A data folder with a migrated database, ``DATABASE`` of ``postgres_pair``, to copy."""
    from persistence.migrate import upgrade  # noqa: PLC0415

    data_dir = tmp_path_factory.mktemp("migrated") / "data"
    shutil.copytree(initialized_postgres, data_dir)
    async with PostgresServer(data_dir) as server:
        await upgrade(await server.create_database(DATABASE))
    return data_dir


@pytest_asyncio.fixture
async def new_postgres(
    tmp_path: Path, initialized_postgres: Path
) -> AsyncIterator[Callable[..., Awaitable[PostgresServer]]]:
    """Start a PostgreSQL of the test's own: to stop, kill, suspend and restart. Not migrated.

    ``**config`` has settings of the server.
    """
    async with AsyncExitStack() as stack:

        async def make(**config: str) -> PostgresServer:
            data_dir = tmp_path / f"postgres-{next(_numbers)}" / "data"
            shutil.copytree(initialized_postgres, data_dir)
            server = PostgresServer(data_dir, config=config)
            stack.push_async_callback(server.stop)
            await server.start()
            return server

        yield make
