"""Archiving beside faults: a pass that one of them ended goes on in the same round."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import asyncpg

from lab.rehearsal.stage import Stage
from lab.soak.row_retention import RowRetention
from persistence.store.writer import insert
from tests.persistence.samples import message, placed
from tests.support.eventually import eventually

# A file is planned, and nobody is at it: the pass has failed.
_FAILED = """
SELECT EXISTS (SELECT FROM row_archives WHERE state = 'planned')
    AND NOT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE locktype = 'advisory' AND datname = current_database())
"""
_NO_STAGE = cast("Stage", None)  # nobody is asked again before something was archived


async def test_archiving_goes_on_when_a_fault_is_over(
    database_pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await insert(database_pool, [placed(message(f"c{n}")) for n in range(4)])
    in_the_way = tmp_path / "messages"  # where the archive's folder belongs
    in_the_way.write_text("not a folder")
    retention = RowRetention(database_pool, tmp_path, _NO_STAGE, seed=1)

    archiving = asyncio.create_task(retention.archive(datetime.now(UTC) + timedelta(hours=1)))
    await eventually(lambda: database_pool.fetchval(_FAILED))
    in_the_way.unlink()

    assert await archiving == (4, [])
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0
