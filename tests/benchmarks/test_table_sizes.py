"""What ``make bench`` fills: rows that the service finds, behind the indexes of the migrations."""

from __future__ import annotations

import asyncpg
import pytest

from lab.bench.figures.table_sizes import fill, filled
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from persistence.store.lookup import answers
from persistence.store.reserved_connections import ReservedConnections

_INDEXES = """
SELECT pg_get_indexdef(indexrelid), indisunique, indisprimary, indisvalid, indisready
FROM pg_index WHERE indrelid = 'messages'::regclass ORDER BY 1
"""


@pytest.mark.parametrize("build_indexes", [False, True])
async def test_filled_rows_are_found_by_the_indexes_of_the_migrations(
    database_url: str, *, build_indexes: bool
) -> None:
    connection = await asyncpg.connect(database_url)
    pool = await connect(PersistenceSettings(database_url=database_url))
    reserved = ReservedConnections(pool, most=1)
    try:
        indexes = await connection.fetch(_INDEXES)
        await fill(connection, 0, 1_000, 10, build_indexes=False)
        await fill(connection, 1_000, 3_000, 10, build_indexes=build_indexes)
        assert await connection.fetch(_INDEXES) == indexes
        known = [filled(number, 10) for number in (1, 1_000, 1_001, 3_000)]
        assert set(await answers(reserved, known, within=30.0)) == set(known)
        await connection.execute("SET enable_seqscan = off")
        assert await connection.fetchval("SELECT count(*) FROM messages WHERE id > $1", known[0])
        with pytest.raises(asyncpg.UniqueViolationError):
            await fill(connection, 2_999, 3_000, 10, build_indexes=False)
    finally:
        await reserved.close()
        await pool.close()
        await connection.close()
