"""Which envelope each process reads, and which payload stores it reads and writes.

A process of the release before takes a version 2 envelope for undecodable, and dead-letters it. One
that reads another store than its messages' content is in finds the content missing, and dead-
letters them too. So each process says in its row of ``processes`` what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from persistence.database.pool import Pool, using
from persistence.fleet.heartbeat import is_alive, machine

__all__ = ["PayloadReader", "payload_readers"]

_READERS = """
SELECT member, version, role, machine, pid, coalesce(envelope, 1) AS envelope, payload_stores
FROM processes WHERE member <> $1 ORDER BY started_at, member
"""


class PayloadReader(msgspec.Struct, frozen=True, kw_only=True):
    """A process's word on payloads.

    ``stores`` are the addresses that it reads, the one that it writes first; ``None`` of a version
    that does not say. A worker writes none.
    """

    member: str
    version: str
    role: str
    envelope: int
    stores: Sequence[str] | None

    @property
    def written(self) -> str | None:
        """The store that it writes, ``None`` where it writes none or does not say."""
        return self.stores[0] if self.stores and self.role != "worker" else None


async def payload_readers(
    pool: Pool, *, besides: str, within: float | None = None
) -> list[PayloadReader]:
    """Return every process but one, the longest running first.

    One that is missing counts: it may be cut off, and at work. One of this machine that is no
    longer there does not.

    Args:
        pool: of the database with the rows.
        besides: the member that is left out.
        within: seconds to wait for PostgreSQL.

    Raises:
        Outage: PostgreSQL can't tell now.
    """
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(_READERS, besides, timeout=within)
    here = machine()
    return [
        PayloadReader(
            member=row["member"],
            version=row["version"],
            role=row["role"],
            envelope=row["envelope"],
            stores=row["payload_stores"],
        )
        for row in rows
        if here is None or row["machine"] != here or is_alive(row["pid"])
    ]
