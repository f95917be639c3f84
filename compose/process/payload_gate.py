"""Large content leaves the log only while every process can read the records without it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from ingress.accept.uploads import Uploads
from persistence.database.outage import stopped_within
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.envelope_versions import outdated_readers
from transport.envelope import NEWEST_VERSION
from transport.errors import ConfigurationError

__all__ = ["PayloadGate"]

_log = structlog.get_logger(__name__)

_EVERY = 2.0
_WITHIN = 1.0


class PayloadGate:
    """Looks at the processes every two seconds, and holds back uploads while one is too old.

    While PostgreSQL has not been asked, large messages are refused; once it was, its outage changes
    nothing. A process that is started later, of the release before, is met within two seconds of
    its first heartbeat, and can have dead-lettered large messages until then: redrive those.
    """

    def __init__(self, pool: Pool, uploads: Uploads) -> None:
        self._pool = pool
        self._uploads = uploads
        self._outdated: Mapping[str, str] = {}

    async def begin(self) -> None:
        """Look for the first time.

        Raises:
            ConfigurationError: a process is known that can't read such records.
        """
        self._uploads.withheld = "PostgreSQL has not told yet whether every process reads payloads."
        await self.look()
        if self._outdated:
            raise ConfigurationError(_text(self._outdated))

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop`` is set."""
        while not await stopped_within(stop, _EVERY):
            await self.look()

    async def look(self) -> None:
        """Look once; while PostgreSQL can't tell, what it told last goes on."""
        try:
            self._outdated = await outdated_readers(self._pool, NEWEST_VERSION, within=_WITHIN)
        except PersistenceError:
            return
        withheld = _text(self._outdated) if self._outdated else None
        if withheld and self._uploads.withheld is None:
            _log.warning("Large messages are refused with 503: a process is too old", why=withheld)
        self._uploads.withheld = withheld


def _text(outdated: Mapping[str, str]) -> str:
    names = ", ".join(f"{member} ({version})" for member, version in outdated.items())
    return (
        f"PAYLOAD_STORE is set while processes run that can't read payloads: {names}. Restart them "
        "with this version first, PAYLOAD_STORE unset where they accept messages; one that is gone "
        "for good is forgotten by 'crossfade migrate forget NAME --why ...'"
    )
