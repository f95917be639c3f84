"""The log that each name means: the first that a process met under it, until it is forgotten.

Rows' positions, fences and reports refer to a log by name, so a name has to mean one log for ever.
Heartbeats record the logs that they meet; they never change a recorded identity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from persistence.database.pool import Pool, using
from persistence.fleet.processes import Process

__all__ = ["KNOWN", "RECORD", "AnotherLog", "forget_log", "known_identities", "met_another_log"]

RECORD = """
INSERT INTO log_identities (name, identity)
SELECT key, value FROM jsonb_each_text({logs}) WHERE value IS NOT NULL
ON CONFLICT DO NOTHING
"""
"""Record the logs of a process that have no identity yet."""

KNOWN = "SELECT jsonb_object_agg(name, identity) FROM log_identities"
"""Every identity by name, as JSON; null if there is none."""


async def known_identities(pool: Pool) -> dict[str, str]:
    """Return the identity of the log that each name means.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch("SELECT name, identity FROM log_identities")
    return {row["name"]: row["identity"] for row in rows}


class AnotherLog(NamedTuple):
    """The live processes that met another log than the one that a name means.

    ``everywhere``: no live process meets the one that it means.
    """

    members: list[str]
    everywhere: bool


def met_another_log(
    processes: Iterable[Process], known: Mapping[str, str]
) -> dict[str, AnotherLog]:
    """Return, by name, the logs that live processes met in place of the one that the name means.

    Args:
        processes: The processes with their latest reports.
        known: The identity of the log that each name means.
    """
    members: dict[str, list[str]] = defaultdict(list)
    as_known: set[str] = set()
    for process in processes:
        for name, identity in (process.logs or {}).items() if process.live else ():
            if identity and known.get(name, identity) != identity:
                members[name].append(process.member)
            elif identity:
                as_known.add(name)
    return {name: AnotherLog(met, name not in as_known) for name, met in members.items()}


async def forget_log(pool: Pool, name: str) -> bool:
    """Forget which log the name means; return whether it was known. The next heartbeat records one.

    Raises:
        Outage: PostgreSQL can't do it now.
    """
    async with using(pool) as connection:
        done = await connection.execute("DELETE FROM log_identities WHERE name = $1", name)
    return str(done) == "DELETE 1"
