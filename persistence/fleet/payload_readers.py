"""The envelope version and the payload stores of each process.

A process of the previous release can't decode a version 2 envelope, and dead-letters it. A process
that reads another store than the one with its messages' content does not find the content, and
dead-letters the messages too. So each process reports in its row of ``processes`` what it reads.
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
    """A process's report on payloads.

    ``stores`` are the addresses that it reads, first the one that it writes; ``None`` if its
    version does not report them. A worker writes to none.
    """

    member: str
    version: str
    role: str
    envelope: int
    stores: Sequence[str] | None

    @property
    def written(self) -> str | None:
        """The store that it writes; ``None`` if it writes to none or does not report it."""
        return self.stores[0] if self.stores and self.role != "worker" else None


async def payload_readers(
    pool: Pool, *, besides: str, within: float | None = None
) -> list[PayloadReader]:
    """Return every process except ``besides``, the longest running first.

    A missing process counts: it may be cut off, and at work. A process of this machine that no
    longer exists does not count.

    Args:
        pool: the database with the rows.
        besides: the member that is left out.
        within: seconds to wait for PostgreSQL.

    Raises:
        Outage: PostgreSQL can't answer now.
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
