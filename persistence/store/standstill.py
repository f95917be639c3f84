"""Find out why PostgreSQL takes no rows although it answers.

A statement that waits fails only when its time is over, and its error does not say what it waited
for. Until then nothing seems to be wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

from persistence.database.pool import Connection
from persistence.database.provenance import reset_statement

__all__ = ["LONG_SECONDS", "Standstill", "standstill"]

LONG_SECONDS = 5.0
"""A wait of this length has a cause outside of us."""

# A role sees the statements of its own sessions. Of others it sees who they are; the rest needs
# pg_read_all_stats. Positions and fences stand in each statement that a row depends on. A session
# whose client gave up waits on.
_FIND = """
SELECT current_setting('transaction_read_only') = 'on' AS read_only,
    pg_is_in_recovery() AS standby,
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS set_by,
    quote_ident(current_user) AS ours, quote_ident(current_database()) AS database,
    current_setting('synchronous_standby_names') AS standbys,
    waits.event, waits.seconds, waits.blocked_by, blocker.pid, blocker.usename::text AS role,
    blocker.application_name AS program, blocker.state,
    extract(epoch FROM clock_timestamp() - blocker.xact_start)::float8 AS open_seconds
FROM (VALUES (1)) AS here LEFT JOIN LATERAL (
    SELECT wait_event AS event, (pg_blocking_pids(pid))[1] AS blocked_by,
        extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND state = 'active'
        AND query_start < clock_timestamp() - $1 * interval '1 second'
        AND (wait_event = 'SyncRep' OR wait_event_type = 'Lock'
            AND (query LIKE '%log_positions%' OR query LIKE '%fences%'))
    ORDER BY query_start LIMIT 1
) AS waits ON true LEFT JOIN pg_stat_activity AS blocker ON blocker.pid = waits.blocked_by
"""


class Standstill(NamedTuple):
    """Why no row is inserted, and the remedy."""

    why: str
    remedy: str


async def standstill(connection: Connection) -> Standstill | None:
    """Return why PostgreSQL takes no rows; ``None`` if nothing is known to keep it from that."""
    found = await connection.fetchrow(_FIND, LONG_SECONDS)
    assert found is not None
    if found["read_only"] and not found["standby"]:
        name, ours, database = "default_transaction_read_only", found["ours"], found["database"]
        if reset := reset_statement(name, found["set_by"], role=ours, database=database):
            return Standstill(
                f"it is read-only for {ours} in {database} ({name})", f"To end that, run {reset}."
            )
    if found["read_only"]:
        return Standstill(
            "it is read-only (a standby, or default_transaction_read_only)",
            "Look at its disk and at what your provider says of it; if another server is the "
            "primary now, name that in DATABASE_URL.",
        )
    if found["event"] == "SyncRep":
        return Standstill(
            f"a commit has waited {found['seconds']:,.0f} s for a synchronous standby "
            f"(synchronous_standby_names = {found['standbys']})",
            "Bring that standby back, or take it out of synchronous_standby_names and reload.",
        )
    if found["blocked_by"] == 0:
        return Standstill(
            f"a statement has waited {found['seconds']:,.0f} s for a lock that a prepared "
            "transaction holds",
            "End it with COMMIT PREPARED or ROLLBACK PREPARED; pg_prepared_xacts lists them.",
        )
    if found["pid"] is None:
        return None
    return Standstill(
        f"a statement has waited {found['seconds']:,.0f} s for a lock that {_holder(found)} holds",
        "End that transaction in its program, or its session: "
        f"SELECT pg_terminate_backend({found['pid']}).",
    )


def _holder(found: asyncpg.Record) -> str:
    """Return who holds a lock, as far as this role may know."""
    known = [str(found["role"])] if found["role"] else []
    if found["program"]:
        known.append(str(found["program"]))
    if found["state"] and found["open_seconds"] is not None:
        known.append(f"{found['state']}, in a transaction for {found['open_seconds']:,.0f} s")
    return f"PostgreSQL's process {found['pid']} ({'; '.join(known)})"
