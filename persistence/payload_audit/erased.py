"""Delete copied content of messages that were erased during the copy.

An erasure deletes in the stores that its process knows. If it runs during a copy, it may delete an
object before the copy writes it to the other store, or it may not know that store yet. The
tombstone is written before anything is deleted, so a search after the copy finds all of them.
"""

from __future__ import annotations

from persistence.database.pool import Pool, using
from persistence.payload_audit.keys import content_key
from persistence.payloads.store import PayloadStore

__all__ = ["delete_erased"]

_ERASED = "SELECT id FROM tombstones WHERE id = ANY($1::uuid[]) AND erased_at IS NOT NULL"


async def delete_erased(pool: Pool, store: PayloadStore) -> int:
    """Delete the content of erased messages from a store; return the number of objects.

    Raises:
        Outage, PayloadOutage: PostgreSQL or the store can't do it now. Run it again.
    """
    deleted = 0
    async for page in store.objects():
        messages = {found.key: message for found in page if (message := _message(found.key))}
        if not messages:
            continue
        async with using(pool) as connection:
            rows = await connection.fetch(_ERASED, list(set(messages.values())))
        erased = {str(row["id"]) for row in rows}
        if keys := [key for key, message in messages.items() if message in erased]:
            await store.delete(keys)
            deleted += len(keys)
    return deleted


def _message(key: str) -> str | None:
    """Return the id of the message whose content has the key; ``None`` for another object."""
    match = content_key(key)
    return match[1] if match else None
