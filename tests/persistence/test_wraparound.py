"""PostgreSQL protects itself from a wraparound of its transaction ids: it refuses every write.

That is nobody's message's fault, although the error has the code of one that is too long.
"""

from __future__ import annotations

import asyncio
import os
import subprocess

import asyncpg
import pytest
from pydantic import SecretStr

from compose.doctor.database import examine_database
from compose.local.postgres import PostgresServer, run_as
from persistence import migrate
from persistence.database.pool import Pool, connect
from persistence.errors import Outage
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.fences import owned
from tests.persistence.samples import message, placed
from tests.support.eventually import eventually
from tests.support.requirements import absent

pytestmark = pytest.mark.timeout(120)

_REFUSED_FROM = 2**31 - 3_000_000
"""The age of the oldest transaction from which writes are refused."""
_IDS_OF_A_SEGMENT = 8192 * 4 * 32
_SEGMENT_BYTES = 256 * 1024


async def use_up_ids(server: PostgresServer) -> None:
    """Make the next transaction id two billion higher, as long use does.

    Args:
        server: A stopped one.
    """
    program = server.binary.path.with_name("pg_resetwal")
    if not program.exists():
        absent(f"no {program}: it comes with PostgreSQL's server programs")
    how = run_as()
    following = _REFUSED_FROM + 2_000  # the first transactions have ids below 1,000
    done = await asyncio.to_thread(
        subprocess.run,
        [*how.prefix, str(program), "-f", "-x", str(following), str(server.data_dir)],
        capture_output=True,
        text=True,
        check=False,
        user=how.identity[0] if how.identity else None,
    )
    assert done.returncode == 0, done.stderr
    segment = server.data_dir / "pg_xact" / f"{following // _IDS_OF_A_SEGMENT:04X}"
    segment.write_bytes(bytes(_SEGMENT_BYTES))
    if how.identity:
        os.chown(segment, *how.identity)


async def doctor_says(pool: Pool, settings: PersistenceSettings, what: str) -> list[str]:
    observed = [each async for each in examine_database(pool, settings)]
    return [f"{each.grade.name}: {each.found}" for each in observed if each.what == what]


async def test_no_message_is_blamed_and_rows_come_once_it_is_vacuumed(new_postgres):
    server = await new_postgres(wal_level="logical", autovacuum_naptime="1s")
    url = await server.create_database("crossfade")
    await migrate.upgrade(url)
    admin = await asyncpg.connect(url)
    # Nobody reads it, and it keeps the ids from being vacuumed away at the start.
    await admin.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
    await admin.close()
    await server.stop()
    await use_up_ids(server)
    await server.start()
    settings = PersistenceSettings(database_url=SecretStr(url))
    pool = await connect(settings)
    writer = Writer(pool)
    try:
        with pytest.raises(Outage, match="drop replication slots that nobody uses"):
            await owned(writer, "redis", 0, 1, "test")
        with pytest.raises(Outage, match="it refuses all writes until"):
            await writer.write([placed(message(), transport="direct")], None)
        (said,) = await doctor_says(pool, settings, "transaction ids")
        assert said.startswith("BAD: ")
        await pool.execute("SELECT pg_drop_replication_slot('forgotten')")

        async def takes_rows() -> bool:
            try:
                fence = await owned(writer, "redis", 0, 1, "test")
            except Outage:
                return False
            return bool(await writer.write([placed(message())], fence))

        await eventually(takes_rows)
        assert await doctor_says(pool, settings, "transaction ids") == []
    finally:
        await pool.close()
