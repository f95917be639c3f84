"""PostgreSQL behind pgbouncer in transaction mode: consecutive statements use other sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest_asyncio

from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from tests.faults.database import drop_connections
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.pgbouncer import Pgbouncer, needs_prepared_statements
from tests.support.postgres_pair import DATABASE


@pytest_asyncio.fixture
async def bouncer(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Pgbouncer]:
    """A pgbouncer in transaction mode with few sessions, which clients share."""
    needs_prepared_statements()
    made = Pgbouncer(tmp_path / "pooler", postgres, mode="transaction", statements=200, pool_size=4)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def pooled(
    bouncer: Pgbouncer,
    postgres: PostgresServer,
    new_redis: Callable[..., Awaitable[ValkeyServer]],
    tmp_path: Path,
) -> AsyncIterator[Deployment]:
    """A deployment whose processes reach PostgreSQL through the pooler."""
    log = RedisLog(await new_redis())
    url = postgres.url_of(DATABASE)
    async with Deployment.on(log, postgres, url, tmp_path / "services") as made:
        yield made


def _addresses(bouncer: Pgbouncer, postgres: PostgresServer) -> dict[str, str]:
    return {
        "DATABASE_URL": bouncer.url_of(DATABASE),
        "DATABASE_DIRECT_URL": postgres.url_of(DATABASE),
    }


async def test_processes_persist_through_it_while_it_and_they_are_hurt(
    pooled: Deployment, bouncer: Pgbouncer, postgres: PostgresServer
) -> None:
    ingresses, (first, second) = await pooled.run(workers=2, **_addresses(bouncer, postgres))
    async with pooled.load(ingresses) as load:
        await first.owns_eventually(8)
        await second.owns_eventually(8)
        await load.goes_on(150)
        await bouncer.kill()
        await load.goes_on(100)
        await bouncer.start()
        await load.goes_on(100)
        await drop_connections(pooled.database_url)
        await load.goes_on(100)
        await first.kill()
        await second.owns_eventually(16)
        await load.goes_on(100)
        await first.start()
        await postgres.kill()
        await load.goes_on(100)
        await postgres.start()
        await load.goes_on(100)
    final = await pooled.assert_promises_held()
    assert {letter.reason for letter in final.letters} <= {"idempotency_conflict"}
