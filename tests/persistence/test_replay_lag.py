"""A server for pages that is far behind its primary, or is another service's: both are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from compose.doctor.reads import examine_reads
from compose.process.health import reads_probe
from persistence.database.pool import Pool, connect
from persistence.database.read_pool import ReadPool
from persistence.settings import PersistenceSettings
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.postgres_pair import DATABASE, PostgresPair, pair, run

_BEGIN = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, started_at)
VALUES ('one', 'serve', 'h', 1, '1', 'u', 'u', 'redis', 'redis', now())
"""
_MET = "INSERT INTO log_identities (name, identity) VALUES ($1, $2)"
_BEAT = "UPDATE processes SET seen_at = seen_at + $1 * interval '1 s'"


@pytest_asyncio.fixture
async def servers(migrated_postgres: Path, tmp_path: Path) -> AsyncIterator[PostgresPair]:
    async with pair(migrated_postgres, tmp_path) as both:
        yield both


@pytest_asyncio.fixture
async def pools(servers: PostgresPair) -> AsyncIterator[tuple[Pool, Pool]]:
    """Connections to the primary, and to the standby."""
    made = [
        await connect(PersistenceSettings(database_url=server.url_of(DATABASE)))
        if server is servers.primary
        else await asyncpg.create_pool(server.url_of(DATABASE), min_size=0, max_size=2)
        for server in (servers.primary, servers.standby)
    ]
    yield made[0], made[1]
    for pool in made:
        pool.terminate()


async def test_a_database_of_another_service_is_told_by_readiness_and_doctor(
    databases: Databases,
) -> None:
    ours, others = await databases.take(), await databases.take()
    settings = PersistenceSettings(database_url=ours, database_read_url=others)
    primary = await connect(settings)
    reads = await asyncpg.create_pool(others, min_size=0, max_size=2)
    probe = reads_probe(ReadPool(reads, primary), timeout_seconds=5)

    async def in_doctor() -> str:
        (told,) = [each async for each in examine_reads(primary, settings) if each.what == "role"]
        return f"{told.grade.name}: {told.found}"

    try:
        await primary.execute(_MET, "redis", "one")
        assert (await probe()).status == "up"  # a copy that has nothing yet
        assert await in_doctor() == "FINE: it takes writes itself"
        await reads.execute(_MET, "redis", "two")
        state = await probe()
        assert state.status == "degraded"
        assert state.detail.startswith("DATABASE_READ_URL is wrong: it has the messages of another")
        assert (await in_doctor()).startswith("BAD: it has the messages of another Crossfade")
        await primary.execute(_MET, "kafka", "three")
        await reads.execute(_MET, "kafka", "three")  # so it is ours, and behind
        assert (await probe()).status == "up"
    finally:
        await primary.close()
        await reads.close()
        await databases.give_back(ours)
        await databases.give_back(others)


async def test_a_standby_that_is_behind_is_told_by_readiness_and_doctor(
    servers: PostgresPair, pools: tuple[Pool, Pool]
) -> None:
    primary, standby = pools
    settings = PersistenceSettings(
        database_url=servers.primary.url_of(DATABASE),
        database_read_url=servers.standby.url_of(DATABASE),
    )
    probe = reads_probe(ReadPool(standby, primary), timeout_seconds=5)

    async def in_doctor() -> str | None:
        told = {each.what: each async for each in examine_reads(primary, settings)}
        assert told["role"].found.startswith("standby")
        return f"{told['lag'].grade.name}: {told['lag'].found}" if "lag" in told else None

    assert (await probe()).status == "up"  # nobody beats: nothing is known
    await run(servers.primary, _BEGIN)
    await servers.cut()
    await run(servers.primary, _BEAT, 59)
    assert (await probe()).status == "up"
    assert await in_doctor() is None
    await run(servers.primary, _BEAT, 1_141)
    state = await probe()
    assert (state.status, state.required) == ("degraded", False)
    assert state.detail.startswith("It is 1,200 s behind, and so are pages")
    assert (await in_doctor() or "").startswith("WARNING: 1,200 s behind DATABASE_URL")
    await servers.primary.kill()
    assert (await probe()).status == "up", "it answers, and what it lacks is not known"
    assert await in_doctor() is None
    await servers.primary.start()
    await run(servers.standby, "ALTER SYSTEM RESET primary_conninfo")
    address = f"host={servers.primary.host} port={servers.primary.port} user=crossfade"
    await run(servers.standby, f"ALTER SYSTEM SET primary_conninfo = '{address}'")
    await run(servers.standby, "SELECT pg_reload_conf()")

    async def follows() -> bool:
        return (await probe()).status == "up" and not await in_doctor()

    await eventually(follows)
