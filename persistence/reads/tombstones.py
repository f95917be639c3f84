"""Messages whose rows are gone: archived, or erased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import msgspec

from persistence.database.pool import Pool, using
from persistence.timestamps import rfc3339

__all__ = ["Buried", "buried", "erased"]

_BURIED = """
SELECT accepted_at, correlation_id, erased_at, name, done_at FROM tombstones
LEFT JOIN row_archives ON row_archives.id = archive
WHERE tombstones.id = $1::uuid
"""
_ERASED = """
SELECT id FROM tombstones WHERE id = ANY($1::uuid[]) AND erased_at IS NOT NULL
"""


class Buried(msgspec.Struct, frozen=True):
    """A message without a row. Times are RFC 3339, UTC; ``archive`` names the file that has it."""

    state: Literal["archived", "erased"]
    accepted_at: str
    correlation_id: str
    at: str | None
    archive: str | None
    message: None = None
    """There is none to show; a key with a prefix learns nothing of it."""


async def buried(pool: Pool, message_id: str) -> Buried | None:
    """Return the tombstone of a message; ``None`` if it has none.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        row = await connection.fetchrow(_BURIED, message_id)
    if row is None:
        return None
    at = row["erased_at"] or row["done_at"]
    return Buried(
        state="archived" if row["erased_at"] is None else "erased",
        accepted_at=rfc3339(row["accepted_at"]),
        correlation_id=row["correlation_id"] or message_id,
        at=rfc3339(at) if at else None,
        archive=None if row["erased_at"] else row["name"],
    )


async def erased(pool: Pool, message_ids: Sequence[str]) -> set[str]:
    """Return those of ``message_ids`` that were erased. No row has an id that is not a UUID.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    ids = [identifier for text in message_ids if (identifier := _uuid(text))]
    if not ids:
        return set()
    async with using(pool) as connection:
        rows = await connection.fetch(_ERASED, ids)
    return {str(row["id"]) for row in rows}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
