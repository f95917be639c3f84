"""The schemas that hold our tables: two sets of tables in one database are rarely intended.

Names are quoted where SQL needs that: both to compare them, and for the statements of a remedy.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

__all__ = [
    "ANOTHER_APPLICATIONS",
    "OWN_SCHEMA",
    "misplacement",
    "namesakes",
    "schemas_with_tables",
]

OWN_SCHEMA = (
    "CREATE SCHEMA crossfade, and add options=-csearch_path%3Dcrossfade to DATABASE_URL; or give "
    "Crossfade a database of its own"
)
"""The remedy where an application's tables have the names of ours."""

# Tables that every revision of ours has.
ANOTHER_APPLICATIONS = """
SELECT version.relnamespace::regnamespace::text FROM pg_class AS version
WHERE version.oid = to_regclass('alembic_version') AND NOT EXISTS (
    SELECT FROM pg_class AS ours WHERE ours.relnamespace = version.relnamespace
    AND ours.relname IN ('fences', 'message_receipts'))
"""
"""Selects the schema of ``alembic_version`` if it is no table of ours."""

_OURS = """
SELECT relnamespace::regnamespace::text FROM pg_class
WHERE relname IN ('fences', 'message_receipts') AND relkind IN ('r', 'p')
GROUP BY relnamespace HAVING count(*) = 2 ORDER BY 1
"""
_HERE = """
SELECT quote_ident(current_schema()) AS first, quote_ident(current_user) AS role,
    quote_ident(current_database()) AS database,
    has_schema_privilege(current_schema(), 'CREATE') AS may_create,
    (SELECT relnamespace::regnamespace::text FROM pg_class
        WHERE oid = to_regclass('alembic_version')) AS at,
    (SELECT source = 'client' FROM pg_settings WHERE name = 'search_path') AS asked
"""

_NAMESAKES = """
SELECT relname::text FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relname = ANY($1)
ORDER BY 1
"""


async def schemas_with_tables(connection: Any, *, within: float | None = None) -> list[str]:
    """Return the schemas that hold our tables, whether this role sees them or not."""
    return [row[0] for row in await connection.fetch(_OURS, timeout=within)]


async def namesakes(
    connection: Any, tables: Collection[str], *, within: float | None = None
) -> list[str]:
    """Return those of ``tables`` that the session's first schema has already."""
    return [row[0] for row in await connection.fetch(_NAMESAKES, [*tables], timeout=within)]


async def misplacement(connection: Any, tables: Collection[str]) -> str | None:
    """Return why a migration would use the wrong schema, and the remedy; ``None`` if it would not.

    It is the wrong one if the existing tables are in another. There may be none at all, or one
    where this role may not create tables: since PostgreSQL 15, public is so for all but the owner
    of the database. Or it has tables of another application with the names of ours, ``tables``.
    """
    found = await connection.fetchrow(_HERE)
    ours = await schemas_with_tables(connection)
    first, at, role = found["first"], found["at"], found["role"]
    if first is None:
        return (
            f"nothing was changed: {role} may use no schema of its search_path, so there is none "
            f"for the tables. GRANT USAGE, CREATE ON SCHEMA public TO {role}, or name another "
            f"one: ALTER ROLE {role} SET search_path"
        )
    if at in ours and at != first:
        return (
            f"nothing was changed: the tables of Crossfade are in schema {at} of database "
            f"{found['database']}, and new ones would be made in schema {first}, which is the "
            f"first in the search_path of {role}. Name the other one first: "
            f"ALTER ROLE {role} SET search_path = {at}"
        )
    if ours and at is None and not found["asked"]:
        return (
            f"nothing was changed: the tables of Crossfade are in schema {', '.join(ours)} of "
            f"database {found['database']}, and a second, empty set would be made in schema "
            f"{first}, which is the first in the search_path of {role}. To use those that there "
            f"are: ALTER ROLE {role} SET search_path = {ours[0]}. To have a second set: add "
            f"options=-csearch_path%3D{quote(first)} to DATABASE_URL"
        )
    if at is None and not found["may_create"]:
        return (
            f"nothing was changed: {role} may not create tables in schema {first} of database "
            f"{found['database']}. As its owner, GRANT CREATE ON SCHEMA {first} TO {role}; or have "
            f"{role} own the database"
        )
    if at is None and first not in ours and (taken := await namesakes(connection, tables)):
        return (
            f"nothing was changed: schema {first} of database {found['database']} has tables of "
            f"another application with the names of ours: {', '.join(taken)}. {OWN_SCHEMA}"
        )
    return None
