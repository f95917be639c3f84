"""A pool of databases for tests, since making and dropping one takes longer than most tests."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

import asyncpg

from tests.support.eventually import eventually

__all__ = ["Databases"]

_SESSIONS = """
SELECT NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend')
"""
_TABLES = """
SELECT string_agg(format('DELETE FROM %s', oid::regclass), '; ') FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
"""
_SEQUENCES = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
# The first id of objects that users make. A copy of a database has the ids of its template.
_OURS = 16384
_CATALOGS = {
    "pg_attrdef": "adrelid", "pg_attribute": "attrelid", "pg_class": "oid", "pg_constraint": "oid",
    "pg_extension": "oid", "pg_index": "indrelid", "pg_namespace": "oid", "pg_policy": "oid",
    "pg_proc": "oid", "pg_rewrite": "ev_class", "pg_statistic": "starelid", "pg_trigger": "oid",
    "pg_type": "oid",
}  # fmt: skip
_ROWS = (
    *(f"SELECT x::text FROM {name} x WHERE {id_} >= {_OURS}" for name, id_ in _CATALOGS.items()),
    "SELECT version_num FROM alembic_version",
    "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'",
    "SELECT datacl::text FROM pg_database WHERE datname = current_database()",
    """
    SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database d ON setdatabase = d.oid
    WHERE datname = current_database()
    """,
)
_STATE = f"SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM ({' UNION ALL '.join(_ROWS)}) y (x)"


class Databases:
    """Migrated, empty databases on one server, each used by one test at a time.

    A returned database is emptied and used again if its catalogs are unchanged: only rows changed,
    too few for new statistics, and no client is connected.
    """

    def __init__(self, server: Any, template: str) -> None:
        self._server = server
        self._template = template
        self._numbers = itertools.count(1)
        self._free: list[str] = []
        self._names: dict[str, str] = {}
        self._state: str | None = None

    async def take(self) -> str:
        """Return the address of an empty database."""
        if self._free:
            return self._free.pop()
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        url: str = await self._server.create_database(name, template=self._template)
        self._names[url] = name
        if self._state is None:
            connection = await asyncpg.connect(url)
            self._state = await connection.fetchval(_STATE)
            await connection.close()
        return url

    async def give_back(self, url: str) -> None:
        """Take a database back."""
        if await self._emptied(url):
            self._free.append(url)
        else:
            await self._drop(url)

    async def drop_all(self) -> None:
        """Drop the databases that are not in use."""
        while self._free:
            await self._drop(self._free.pop())

    async def _emptied(self, url: str) -> bool:
        try:
            connection = await asyncpg.connect(url)
        except (OSError, asyncpg.PostgresError):
            return False
        try:
            async with asyncio.timeout(10):
                await eventually(lambda: connection.fetchval(_SESSIONS))
                if await connection.fetchval(_STATE) != self._state:
                    return False
                await connection.execute(await connection.fetchval(_TABLES))
                await connection.execute(_SEQUENCES)
        except (AssertionError, TimeoutError, asyncpg.PostgresError):
            return False
        finally:
            await connection.close(timeout=5)
        return True

    async def _drop(self, url: str) -> None:
        await self._server.drop_database(self._names.pop(url))
