"""Large content leaves the log only while every process can read the records without it."""

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
    """Looks at the other processes every two seconds.

    While one of them can't read what this one writes, uploads are held back. While one of them
    writes to a store that this one doesn't read, nothing is missing for this one: its workers wait.

    Until PostgreSQL was asked, both hold; once it was, its outage changes nothing. A process of the
    release before that is started later is met within two seconds of its first heartbeat, and can
    have dead-lettered large messages until then: redrive those.

    Args:
        pool: of the database with the rows.
        store: that this process reads, with its fallback.
        uploads: to that store; ``None`` in a process that accepts no messages.
        member: this process.
        within: seconds to wait for PostgreSQL at each look.
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
        """Look, and refuse to start beside processes that disagree.

        To be called before this process is seen by the others, so that one which can't start does
        not hold them up; and again afterwards, since only then two see each other that start at
        once.

        Raises:
            ConfigurationError: another process can't read what this one would write, or writes
                where this one doesn't read.
        """
        await self.look()
        for text in (self._unread, self._elsewhere):
            if text not in {None, _NOT_TOLD}:
                raise ConfigurationError(text)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop`` is set."""
        while not await stopped_within(stop, _EVERY):
            await self.look()

    async def look(self) -> None:
        """Look once; while PostgreSQL can't tell, what it told last goes on."""
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
        """Why uploads are held back, for operators; ``None`` where they are not."""
        return self._unread or self._elsewhere

    def _apply(self) -> None:
        if self._uploads:
            self._uploads.withheld = _FOR_CLIENTS if self.refusal else None
        # Of two stores the last one decides that an object is missing.
        self._last.elsewhere = self._elsewhere
