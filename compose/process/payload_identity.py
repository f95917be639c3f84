"""Confirms that a payload store belongs to this database, before the process uses it."""

from __future__ import annotations

import asyncio

import structlog

from persistence.database.outage import stopped_within
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.payload_identity import confirm
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.store import PayloadStore

__all__ = ["PayloadIdentity"]

_log = structlog.get_logger(__name__)

_EVERY = 2.0
_WITHIN = 1.0


class PayloadIdentity:
    """Checks a store's identity every two seconds, until it is confirmed.

    Until then large messages are refused, and no message is dead-lettered for missing content. The
    fallback store is checked separately: nothing is written there.
    """

    def __init__(self, pool: Pool, store: PayloadStore) -> None:
        self._pool = pool
        self._stores = [store] if store.fallback is None else [store, store.fallback]

    async def begin(self) -> None:
        """Withhold the stores, and check them for the first time."""
        for store in self._stores:
            store.withheld = "PostgreSQL has not told yet which payload store is its own"
        await self.look()

    async def run(self, stop: asyncio.Event) -> None:
        """Check every two seconds until ``stop`` is set."""
        while not await stopped_within(stop, _EVERY):
            await self.look()

    async def look(self) -> None:
        """Check each withheld store once; a store that can't be confirmed stays withheld."""
        for store in self._stores:
            if store.withheld is not None:
                await self._look(store)
            if store.identity is None:
                return  # both have the first store's identity, so it has to be known first

    async def _look(self, store: PayloadStore) -> None:
        try:
            await confirm(self._pool, store, within=_WITHIN)
        except PayloadOutage as error:
            if store.withheld != str(error):
                _log.error("The payload store can't be used", why=str(error))
            store.withheld = str(error)
        except PersistenceError:
            return
