"""Check that a payload store is this database's own: the first one that a process met.

A folder whose disk is not mounted, or another bucket, works and has none of the payloads. If it
were taken for the store, the content of every message with a payload would count as missing. An
operator can have the recorded store forgotten.
"""

from __future__ import annotations

from persistence.database.pool import Pool, using
from persistence.payloads.store import PayloadStore

__all__ = ["confirm", "confirm_every"]

_KNOWN = "SELECT identity FROM log_identities WHERE name = $1"
_RECORD = "INSERT INTO log_identities (name, identity) VALUES ($1, $2)"
_LOCK = "SELECT pg_advisory_xact_lock(hashtext($1))"


async def confirm(pool: Pool, store: PayloadStore, *, within: float | None = None) -> None:
    """Give the store the identity that it must have, and check it. The first store is recorded.

    Args:
        pool: the database with the rows.
        store: the store of payloads, or of archived rows; ``identity`` and ``withheld`` are set.
        within: seconds to wait for PostgreSQL.

    Raises:
        Outage: PostgreSQL can't answer now.
        PayloadOutage: the store can't answer now, or it is another one.
    """
    async with using(pool, within=within) as connection:
        known = await connection.fetchval(_KNOWN, store.name, timeout=within)
    store.identity = known or await _first(pool, store, within)
    await store.compare()
    store.withheld = None


async def confirm_every(pool: Pool, store: PayloadStore) -> None:
    """Confirm a store and its fallback: both have the same identity.

    Raises:
        Outage, PayloadOutage: as ``confirm`` does.
    """
    await confirm(pool, store)
    if store.fallback is not None:
        await confirm(pool, store.fallback)


async def _first(pool: Pool, store: PayloadStore, within: float | None) -> str:
    """Mark a store without a mark, record it, and return its identity. Processes take turns."""
    async with using(pool, within=within) as connection, connection.transaction():
        await connection.execute(_LOCK, store.name, timeout=within)
        known: str | None = await connection.fetchval(_KNOWN, store.name, timeout=within)
        if known is None:
            known = await store.mark() or await store.make_mark()
            await connection.execute(_RECORD, store.name, known, timeout=within)
    return known
