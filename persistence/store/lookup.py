"""The query of each ingress tick: which messages have a row already (promise 4)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import msgspec

from persistence.database.pool import Connection
from persistence.store.reserved_connections import ReservedConnections
from persistence.timestamps import rfc3339

__all__ = ["StoredAnswer", "answers", "buried_among"]

# The ids are sent as one text, an array literal. To encode a list, the driver checks the type of
# each item, which was half of the query's cost in the ingress.
ANSWERS = """
SELECT id, accepted_at, fingerprint, correlation_id, 'persisted' AS state,
    transport, partition, log_offset
FROM messages
WHERE id = ANY($1::text::uuid[])
UNION ALL
SELECT id, accepted_at, fingerprint, correlation_id,
    CASE WHEN erased_at IS NULL THEN 'archived' ELSE 'erased' END, '', 0, ''
FROM tombstones WHERE id = ANY($1::text::uuid[])
"""


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to the first request with a key, and the digest of its body (promise 5).

    ``accepted_at`` is the RFC 3339 text of the first answer. For an erased message, the digest is
    empty, and the correlation id is the message's own id. ``log``, ``partition`` and ``offset`` are
    those of the row's record; the offset is empty if there is none any more.
    """

    accepted_at: str
    fingerprint: str
    correlation_id: str
    state: Literal["persisted", "archived", "erased"] = "persisted"
    log: str = ""
    partition: int = 0
    offset: str = ""


async def answers(
    connections: ReservedConnections, message_ids: Sequence[str], *, within: float
) -> dict[str, StoredAnswer]:
    """Return the answer of each id that has a row or a tombstone; ids are canonical UUID text.

    ``within`` bounds, in seconds, the wait for a connection and the wait for the result.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    if not message_ids:
        return {}
    ids = f"{{{','.join(message_ids)}}}"
    rows = await connections.fetch(ANSWERS, ids, within=within)
    found: dict[str, StoredAnswer] = {}
    for row in rows:  # rows before tombstones: while a message is archived it has both
        identifier = str(row["id"])
        if identifier not in found:
            found[identifier] = StoredAnswer(
                rfc3339(row["accepted_at"]),
                row["fingerprint"] or "",
                row["correlation_id"] or identifier,
                row["state"],
                row["transport"],
                row["partition"],
                row["log_offset"],
            )
    return found


_BURIED = """
SELECT id FROM tombstones WHERE id = ANY($1::uuid[]) AND ($2 OR erased_at IS NOT NULL)
"""


async def buried_among(
    connection: Connection, message_ids: Sequence[str], *, archived: bool = True
) -> set[str]:
    """Return those of ``message_ids`` that were erased, or whose rows were ``archived``."""
    ids = [identifier for text in message_ids if (identifier := _uuid(text))]
    return {str(row["id"]) for row in await connection.fetch(_BURIED, ids, archived)}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
