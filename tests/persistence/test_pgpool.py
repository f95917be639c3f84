"""pgpool-II sends reads to standbys by default. Decisions must not be made from their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from persistence.database.pool import connect, connect_reads, using
from persistence.errors import UnfitDatabase
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.samples import message, placed
from tests.support.pgpool import Pgpool
from tests.support.postgres_pair import DATABASE, PostgresPair, pair


@pytest_asyncio.fixture
async def servers(migrated_postgres: Path, tmp_path: Path) -> AsyncIterator[PostgresPair]:
    async with pair(migrated_postgres, tmp_path / "pair") as both:
        yield both


async def test_a_pooler_that_reads_from_a_standby_is_refused(
    servers: PostgresPair, tmp_path: Path
) -> None:
    async with Pgpool(tmp_path / "pgpool", servers) as pooler:
        url = SecretStr(pooler.url_of(DATABASE))
        pool = await connect(PersistenceSettings(database_url=url))
        try:
            for _ in range(2):  # it is not taken for a usable one later
                with pytest.raises(UnfitDatabase, match="load_balance_mode = off"):
                    async with using(pool):
                        pass
        finally:
            pool.terminate()
        reads = await connect_reads(PersistenceSettings(database_read_url=url))
        assert reads is not None
        try:
            async with using(reads) as connection:  # pages may be as old as a standby is
                assert await connection.fetch("SELECT FROM messages") == []
        finally:
            reads.terminate()


@pytest.mark.parametrize(
    "remedy",
    [
        {"load_balance_mode": "off"},
        {"app_name_redirect_preference_list": "crossfade:primary"},
    ],
)
async def test_with_either_remedy_what_was_written_is_read(
    servers: PostgresPair, tmp_path: Path, remedy: dict[str, str]
) -> None:
    await servers.cut()
    async with Pgpool(tmp_path / "pgpool", servers, **remedy) as pooler:
        url = SecretStr(pooler.url_of(DATABASE))
        pool = await connect(PersistenceSettings(database_url=url))
        try:
            await Writer(pool).write([placed(message("one"))], None)
            async with using(pool) as connection:
                assert await connection.fetchval("SELECT count(*) FROM messages") == 1
        finally:
            pool.terminate()
