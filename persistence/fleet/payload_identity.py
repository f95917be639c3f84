"""Which payload store is this database's own: the first that a process met, until it is forgotten.

A folder whose disk is not mounted, or another bucket, works and has none of the payloads. Taken for
the store it would make every message with a payload one whose content is missing.
"""

from __future__ import annotations

from persistence.database.pool import Pool, using
from persistence.payloads.store import PayloadStore

__all__ = ["confirm", "confirm_every"]

_KNOWN = "SELECT identity FROM log_identities WHERE name = $1"
_RECORD = "INSERT INTO log_identities (name, identity) VALUES ($1, $2)"
_LOCK = "SELECT pg_advisory_xact_lock(hashtext($1))"


async def confirm(pool: Pool, store: PayloadStore, *, within: float | None = None) -> None:
    """Tell the store which one it has to be, and return if it is. The first one is recorded.

    Args:
        pool: of the database with the rows.
        store: of payloads, or of archived rows; ``identity`` and ``withheld`` are set.
        within: seconds to wait for PostgreSQL.

    Raises:
        Outage: PostgreSQL can't tell now.
        PayloadOutage: the store can't tell now, or it is another one.
    """
    async with using(pool, within=within) as connection:
        known = await connection.fetchval(_KNOWN, store.name, timeout=within)
    store.identity = known or await _first(pool, store, within)
    await store.compare()
    store.withheld = None


async def confirm_every(pool: Pool, store: PayloadStore) -> None:
    """Confirm a store, and the one that it falls back to: both have the same identity.

    Raises:
        Outage, PayloadOutage: as of ``confirm``.
    """
    await confirm(pool, store)
    if store.fallback is not None:
        await confirm(pool, store.fallback)


async def _first(pool: Pool, store: PayloadStore, within: float | None) -> str:
    """Record the store, marked if it was not, and return its identity. Processes take turns."""
    async with using(pool, within=within) as connection, connection.transaction():
        await connection.execute(_LOCK, store.name, timeout=within)
        known: str | None = await connection.fetchval(_KNOWN, store.name, timeout=within)
        if known is None:
            known = await store.mark() or await store.make_mark()
            await connection.execute(_RECORD, store.name, known, timeout=within)
    return known
