"""The ingress's query of each tick: the messages that are rows already (promise 4)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from persistence.store.reserved_connections import ReservedConnections
from persistence.timestamps import rfc3339

__all__ = ["StoredAnswer", "answers"]

# The ids go as one text, an array literal: encoding a list costs the driver a type check per item,
# half of what the whole question cost the ingress.
ANSWERS = """
SELECT id, accepted_at, fingerprint, correlation_id FROM messages
WHERE id = ANY($1::text::uuid[])
"""


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """Answer to the first request, and the digest of its body (promise 5).

    ``accepted_at`` is the RFC 3339 text the first answer had.
    """

    accepted_at: str
    fingerprint: str
    correlation_id: str


async def answers(
    connections: ReservedConnections, message_ids: Sequence[str], *, within: float
) -> dict[str, StoredAnswer]:
    """Return the answer of each id that is a row; ids are canonical UUID text.

    ``within`` bounds, in seconds, the wait for a connection and that for its answer.

    Raises:
        Outage: PostgreSQL can't tell now.
    """
    if not message_ids:
        return {}
    ids = f"{{{','.join(message_ids)}}}"
    rows = await connections.fetch(ANSWERS, ids, within=within)
    return {
        str(row["id"]): StoredAnswer(
            rfc3339(row["accepted_at"]), row["fingerprint"], row["correlation_id"]
        )
        for row in rows
    }
