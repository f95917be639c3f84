"""Searches a whole database for a text."""

from __future__ import annotations

from persistence.database.pool import Pool

__all__ = ["columns_with"]

_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
ORDER BY table_name, column_name
"""
# Byte columns are compared as bytes; arrays and JSON by their text form in PostgreSQL.
_HAS = """
SELECT EXISTS (SELECT FROM "{table}" WHERE
    position($1 IN "{column}"::text) > 0
    OR position(encode($1::bytea, 'hex') IN "{column}"::text) > 0)
"""


async def columns_with(pool: Pool, text: str) -> set[str]:
    """Return the columns, of every table and type, that have ``text`` in any row."""
    found = set()
    async with pool.acquire() as connection:
        for table, column in await connection.fetch(_COLUMNS):
            sql = _HAS.format(table=table, column=column).replace(
                "$1::bytea", "convert_to($1, 'UTF8')"
            )
            if await connection.fetchval(sql, text):
                found.add(f"{table}.{column}")
    return found
