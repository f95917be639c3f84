"""PostgreSQL takes no more connections: a process that has none gives up its partitions."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from compose.process.settings_warnings import warn_of_database
from persistence.database.outage import database_barrier, log_barrier
from persistence.database.pool import connect
from persistence.metrics import PersistenceMetrics
from persistence.ownership.partition_owner import PartitionOwner
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.loglib import append, lag
from tests.persistence.samples import message
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from transport.errors import TransportUnavailable

_ROLE = "few_connections"
_MOST = 6


@pytest.fixture
async def role_url(database_url: str, database_pool: asyncpg.Pool):
    """The database's address for a role that may have so many connections."""
    await database_pool.execute(
        f"DROP ROLE IF EXISTS {_ROLE}; CREATE ROLE {_ROLE} LOGIN CONNECTION LIMIT {_MOST};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {_ROLE}"
    )
    yield database_url.replace("://crossfade@", f"://{_ROLE}@")
    await database_pool.execute(f"DROP OWNED BY {_ROLE}; DROP ROLE {_ROLE}")


async def test_a_worker_without_a_connection_gives_its_partitions_up(
    role_url: str, start, alive, transport, database_pool
) -> None:
    pools = [
        await connect(PersistenceSettings(database_url=SecretStr(url), database_pool_size=6))
        for url in (role_url.replace(_ROLE, "crossfade"), role_url)
    ]
    await alive("rich")
    heartbeat = await alive("poor")
    try:
        rich = start(member="rich", pool=pools[0]).consumer
        poor = start(member="poor", pool=pools[1]).consumer
        await eventually(lambda: len(rich.status().partitions) == 2)
        await eventually(lambda: len(poor.status().partitions) == 2)
        heartbeat.cancel()
        await database_pool.execute(f"ALTER ROLE {_ROLE} CONNECTION LIMIT 0")
        await append(transport, *(message(f"m{n}", f"c{n}") for n in range(20)))

        async def given_up() -> bool:
            # Again each time: a connection may have been on its way when the limit changed.
            await database_pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", _ROLE
            )
            return poor.status().epochs is None

        await eventually(given_up)
        await eventually(lambda: [pause.dependency for pause in poor.status().paused])
        (paused,) = poor.status().paused
        assert (paused.dependency, "connection" in paused.error) == ("postgresql", True)
        await database_pool.execute(
            "UPDATE processes SET seen_at = now() - interval '11 s' WHERE member = 'poor'"
        )

        async def all_persisted() -> bool:
            return await lag(transport) == 0

        await eventually(all_persisted)
        await database_pool.execute(f"ALTER ROLE {_ROLE} CONNECTION LIMIT {_MOST}")
        await alive("poor")
        await eventually(lambda: len(poor.status().partitions) == 2)
        assert not poor.status().paused
    finally:
        for pool in pools:
            pool.terminate()


async def test_more_connections_than_the_server_takes_are_told_at_the_start(database_url) -> None:
    pool = await connect(
        PersistenceSettings(database_url=SecretStr(database_url), database_pool_size=400)
    )
    try:
        with capture_logs() as logs:
            await warn_of_database(pool, asyncio.Event())
    finally:
        pool.terminate()
    (told,) = [line for line in logs if "connections to PostgreSQL" in line["event"]]
    assert "1 processes may open 400" in told["event"]
    assert "DATABASE_POOL_SIZE" in told["remedy"]


@pytest.mark.parametrize(
    ("error", "label"),
    [(RuntimeError("a defect"), "unexpected"), (TransportUnavailable("away"), "redis")],
    ids=["after a defect", "for the log"],
)
async def test_a_process_that_gave_its_partitions_up_waits_for_nothing_else(
    error: Exception, label: str, transport, database_pool, metrics
) -> None:
    """It may take partitions again, and nothing fails then."""
    barrier, stop = log_barrier(transport, metrics, longest=30.0), asyncio.Event()

    async def serve(_partition: int, _epoch: int, leave: asyncio.Event) -> None:
        if isinstance(error, TransportUnavailable):
            await barrier.hold(error, leave)
        raise error

    owner = PartitionOwner(
        database_pool,
        transport.name,
        range(transport.partitions),
        member="w1",
        database_barrier=database_barrier(Writer(database_pool).probe, metrics, longest=0.1),
        metrics=metrics,
        serve=serve,
    )
    paused = metrics.of(PersistenceMetrics).paused.labels(label)
    running = asyncio.create_task(owner.run(stop))
    await eventually(lambda: value_of(paused))
    stop.set()
    await running
    assert not value_of(paused)
    assert not owner.paused()
    assert not barrier.paused()
