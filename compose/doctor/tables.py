"""Examines the tables: schema, rights, and what could lose a row or store one twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

import asyncpg

from compose.doctor.observation import Observation, bad, fine, warning
from persistence.audit.audit import missing_constraints
from persistence.database.pool import Connection
from persistence.errors import AnotherApplication
from persistence.schemas import OWN_SCHEMA, namesakes, schemas_with_tables
from persistence.sequences import behind, unprivileged
from persistence.settings import PersistenceSettings

__all__ = ["examine_tables"]

_WITHIN = 5.0
_LACKING = """
SELECT c.relname::text AS name, string_agg(wanted, ', ' ORDER BY place) AS rights
FROM unnest($1::text[]) AS ours (name)
    JOIN pg_class c ON c.oid = to_regclass(quote_ident(ours.name)),
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
        WITH ORDINALITY AS rights (wanted, place)
WHERE NOT has_table_privilege(c.oid, wanted)
    AND (wanted = 'SELECT' OR c.relname <> 'alembic_version')
GROUP BY 1 ORDER BY 1
"""
_HIDDEN = """
SELECT ours.name FROM unnest($1::text[]) AS ours (name)
WHERE row_security_active(to_regclass(quote_ident(ours.name))) ORDER BY 1
"""
_UNLOGGED = """
SELECT c.relname::text AS name FROM unnest($1::text[]) AS ours (name)
    JOIN pg_class c ON c.oid = to_regclass(quote_ident(ours.name))
WHERE c.relpersistence = 'u' ORDER BY 1
"""


async def examine_tables(
    connection: Connection, server: Any, settings: PersistenceSettings
) -> AsyncIterator[Observation]:
    """Yield the observations of the tables; ``server`` has the session's role and schema."""
    for part in (
        _schema(connection, server, settings),
        _may_lose_or_double(connection),
        _sequences(connection, server),
    ):
        async for observation in part:
            yield observation


async def _schema(
    connection: Connection, server: Any, settings: PersistenceSettings
) -> AsyncIterator[Observation]:
    from persistence import migrate  # noqa: PLC0415 - Alembic takes long to import
    from persistence.tables.models import metadata  # noqa: PLC0415 - SQLAlchemy too

    role = server["role"]
    if server["schema"] is None:
        yield bad(
            "schema",
            f"{role} may use no schema of its search_path ({server['search_path']})",
            f"GRANT USAGE ON SCHEMA public TO {role}, or ALTER ROLE {role} SET search_path",
        )
        return
    tables = [*metadata.tables, "alembic_version"]
    lacking = await connection.fetch(_LACKING, tables, timeout=_WITHIN)
    if lacking:
        tables_by_rights: dict[str, list[str]] = {}
        for row in lacking:
            tables_by_rights.setdefault(row["rights"], []).append(row["name"])
        grants = [(rights, ", ".join(names)) for rights, names in tables_by_rights.items()]
        yield bad(
            "rights",
            f"{role} lacks " + "; ".join(f"{rights} on {names}" for rights, names in grants),
            "; ".join(f"GRANT {rights} ON {names} TO {role}" for rights, names in grants),
        )
    if hidden := await connection.fetch(_HIDDEN, tables, timeout=_WITHIN):
        which = ", ".join(row["name"] for row in hidden)
        yield bad(
            "row security",
            f"it keeps rows of {which} from {role}",
            f"ALTER ROLE {role} BYPASSRLS, or ALTER TABLE ... DISABLE ROW LEVEL SECURITY",
        )
    if any(row["name"] == "alembic_version" for row in lacking):
        return  # without that right, the revision can't be read
    latest = migrate.latest()
    try:
        at = await migrate.current(settings.direct_url)
    except AnotherApplication as error:
        yield bad("schema", str(error), "do that, then run 'crossfade db upgrade'")
        return
    if at is None:
        yield await _no_schema(connection, server, metadata.tables)
        return
    yield _revision(at, latest, is_newer=migrate.is_newer(at))
    if lacking:
        return
    if not server["may_create"]:
        yield warning(
            "rights",
            f"{role} may not create tables here",
            "migrate with a user who may, before a new version starts",
        )
    else:
        yield fine("rights", f"{role} may do all that is needed")


async def _no_schema(connection: Connection, server: Any, tables: Collection[str]) -> Observation:
    """Return the observation of a database that was never migrated."""
    role, database = server["role"], server["database"]
    elsewhere = await schemas_with_tables(connection, within=_WITHIN)
    if not elsewhere and not server["may_create"]:
        return bad(
            "schema",
            f"none in schema {server['schema']} of database {database}, and {role} may not "
            "create tables there",
            f"GRANT CREATE ON SCHEMA {server['schema']} TO {role}, in {database} as its owner; "
            "then run 'crossfade db upgrade'",
        )
    if not elsewhere and (taken := await namesakes(connection, tables, within=_WITHIN)):
        return bad(
            "schema",
            f"schema {server['schema']} of database {database} has tables of another "
            f"application with the names of ours: {', '.join(taken)}",
            f"{OWN_SCHEMA}; then run 'crossfade db upgrade'",
        )
    return bad(
        "schema",
        f"none in schema {server['schema']} of database {database}"
        + (f"; tables of Crossfade are in schema {', '.join(elsewhere)}" if elsewhere else ""),
        f"ALTER ROLE {role} SET search_path = {elsewhere[0]}: 'crossfade db upgrade' makes no "
        f"empty tables beside those unless it is asked to"
        if elsewhere
        else "run 'crossfade db upgrade', unless DATABASE_URL should name the database that has "
        "them",
    )


def _revision(at: str, latest: str | None, *, is_newer: bool) -> Observation:
    if is_newer:  # somebody went back to this version, which works with it
        return fine("schema", f"at {at}, of a newer version; this one wants {latest}")
    if at == latest:
        return fine("schema", f"at {at}, the latest")
    return bad(
        "schema",
        f"at {at}; this version wants {latest}",
        "run 'crossfade db upgrade' of the newest version that runs",
    )


async def _may_lose_or_double(connection: Connection) -> AsyncIterator[Observation]:
    """Yield an observation if tables may lose rows, or take one twice."""
    from persistence.tables.models import metadata  # noqa: PLC0415 - SQLAlchemy takes long

    if unlogged := await connection.fetch(_UNLOGGED, [*metadata.tables], timeout=_WITHIN):
        names = [row["name"] for row in unlogged]
        yield bad(
            "unlogged tables",
            f"{', '.join(names)}: empty after a crash of PostgreSQL, and on each standby",
            "; ".join(f"ALTER TABLE {name} SET LOGGED" for name in names),
            promise=1,
        )
    try:
        missing = await missing_constraints(connection)
    except asyncpg.PostgresError:
        return  # there are no tables, which is told already
    if missing:
        yield bad(
            "constraints",
            f"the tables lack {', '.join(missing)}, or its index is not valid, as after a restore "
            "that had errors: a message or a receipt could become two rows",
            "'crossfade audit --repair' puts them back",
            promise=2,
        )


async def _sequences(connection: Connection, server: Any) -> AsyncIterator[Observation]:
    try:
        late, closed = await behind(connection), await unprivileged(connection)
    except asyncpg.PostgresError:
        return  # tables or rights are missing, which is told already
    if late:
        yield bad(
            "sequences",
            f"{', '.join(each.sequence for each in late)}: the next number is one that rows have "
            "(logical replication copies no sequences)",
            "; ".join(each.remedy for each in late)
            + ". A worker does it before it inserts, if its user may",
            promise=3,
        )
    if closed:
        role, schema = server["role"], server["schema"]
        yield warning(
            "sequences",
            f"{role} may not read and set {', '.join(closed)}: on a copy made by logical "
            "replication, new messages could be read before old ones",
            f"GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        )
