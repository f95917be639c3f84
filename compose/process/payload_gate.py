"""Withholds uploads to the payload store unless every process can read them there."""

from __future__ import annotations

import asyncio

import structlog

from compose.process.payload_refusals import elsewhere, silent, unread
from ingress.accept.uploads import Uploads
from persistence.database.outage import stopped_within
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.payload_readers import payload_readers
from persistence.payloads.store import PayloadStore
from transport.errors import ConfigurationError

__all__ = ["PayloadGate"]

_log = structlog.get_logger(__name__)

_EVERY = 2.0
_WITHIN = 1.0
_NOT_TOLD = "PostgreSQL has not told yet which payload stores the other processes read and write."

_FOR_CLIENTS = "Not every process reads the payload store of this one, or that is not known yet."


class PayloadGate:
    """Compares this process's payload stores with those of the other processes every two seconds.

    While another process can't read the store that this one writes, uploads are withheld. While
    another process writes to a store that this one doesn't read, its workers wait for a payload
    that they don't find, and do not dead-letter the message.

    Both hold until PostgreSQL has answered once; a later outage of PostgreSQL changes nothing. A
    process of the previous release that starts later is seen within two seconds of its first
    heartbeat. Until then it can dead-letter large messages: redrive those.

    Args:
        pool: Connections to the database that has the rows.
        store: The store that this process reads, with its fallback.
        uploads: The uploads to that store; ``None`` in a process that accepts no messages.
        member: The name of this process.
        within: Seconds to wait for PostgreSQL at each comparison.
    """

    def __init__(
        self,
        pool: Pool,
        store: PayloadStore,
        uploads: Uploads | None,
        *,
        member: str,
        within: float = _WITHIN,
    ) -> None:
        self._pool = pool
        self._within = within
        self._uploads = uploads
        self._member = member
        self._stores = store.addresses
        self._last = store.fallback or store
        self._silent: list[str] = []
        self._unread: str | None = _NOT_TOLD
        self._elsewhere: str | None = _NOT_TOLD
        self._apply()

    async def begin(self) -> None:
        """Compare once, and refuse to start beside processes whose stores don't fit.

        Call it before the first heartbeat, so that a process that can't start does not hold up the
        others; and again after it, since two processes that start at once see each other only then.

        Raises:
            ConfigurationError: another process can't read the store that this one writes, or
                writes to a store that this one doesn't read.
        """
        await self.look()
        for text in (self._unread, self._elsewhere):
            if text not in {None, _NOT_TOLD}:
                raise ConfigurationError(text)

    async def run(self, stop: asyncio.Event) -> None:
        """Compare every two seconds until ``stop`` is set."""
        while not await stopped_within(stop, _EVERY):
            await self.look()

    async def look(self) -> None:
        """Compare once; while PostgreSQL does not answer, the last result stays valid."""
        try:
            others = await payload_readers(self._pool, besides=self._member, within=self._within)
        except PersistenceError:
            return
        before = (self._unread, self._elsewhere)
        self._unread = unread(self._stores, others) if self._uploads else None
        self._elsewhere = elsewhere(self._stores, others)
        if self._unread and before[0] is None:
            _log.warning("Large messages are refused with 503", why=self._unread)
        if self._elsewhere and before[1] is None:
            _log.warning("Missing payloads are waited for", why=self._elsewhere)
        names = [other.member for other in silent(others)]
        if names and names != self._silent:
            _log.warning(
                "It is not known which payload stores these processes read: their version does "
                "not say. Don't change PAYLOAD_STORE before they are restarted with this version",
                members=names,
            )
        self._silent = names
        self._apply()

    @property
    def refusal(self) -> str | None:
        """Why uploads are withheld, for operators; ``None`` if they are not."""
        return self._unread or self._elsewhere

    def _apply(self) -> None:
        if self._uploads:
            self._uploads.withheld = _FOR_CLIENTS if self.refusal else None
        # An object counts as missing only when the last store of the chain does not have it.
        self._last.elsewhere = self._elsewhere
