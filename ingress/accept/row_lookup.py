"""The look-up of a group commit's messages in PostgreSQL. It does not wait during an outage.

The look-up makes answers to repeats exact after every cache has expired. Correctness does not need
it: the id is derived from the key, and PostgreSQL's unique key decides. So if PostgreSQL is down or
hangs, the group commits under way wait once for the time limit. Later ones skip the look-up until
PostgreSQL has answered a probe in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from persistence.chain.kept_rows import KeptRows
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads.messages import dead_lettered
from persistence.store.lookup import StoredAnswer, answers
from persistence.store.reserved_connections import ReservedConnections
from transport.backoff import Backoff
from transport.contract import Remembered

__all__ = ["RowLookup", "remembered"]

_PROBE = "00000000-0000-8000-8000-000000000000"
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_log = structlog.get_logger(__name__)


class RowLookup:
    """Asks PostgreSQL for the rows of messages, and stops asking while PostgreSQL does not answer.

    Args:
        pool: The pool of connections to PostgreSQL.
        timeout_seconds: The longest wait for an answer.
        at_once: The most group commits under way; a connection is reserved for each.
        kept: Decides which rows may answer repeats; by default all.
    """

    def __init__(
        self, pool: Pool, *, timeout_seconds: float, at_once: int, kept: KeptRows | None = None
    ) -> None:
        self._pool = pool
        self._kept = kept
        self._connections = ReservedConnections(pool, most=at_once)
        self._timeout = timeout_seconds
        self._probing: asyncio.Task[None] | None = None

    @property
    def asking(self) -> bool:
        """Whether PostgreSQL answered when it was last asked."""
        return self._probing is None

    @property
    def may_answer_from_memory(self) -> bool:
        """Whether a row that was seen may answer a repeat while PostgreSQL does not answer."""
        return self._kept is None or not self._kept.mirrors

    def may_answer(self, row: StoredAnswer) -> bool:
        """Return whether a row may answer a repeat: otherwise the message is appended again."""
        return self._kept is None or self._kept.has(row.log, row.partition, row.offset)

    async def answers(self, message_ids: Sequence[str]) -> dict[str, StoredAnswer] | None:
        """Return the rows of these ids, by id; ``None`` if PostgreSQL does not answer."""
        if not message_ids:
            return {}
        if self._probing is not None:
            return None
        try:
            return await answers(self._connections, message_ids, within=self._timeout)
        except Outage as error:
            self._suspend(error)
            return None

    async def dead_lettered(self, message_ids: Sequence[str]) -> set[str] | None:
        """Return the ids that are dead letters; ``None`` if PostgreSQL does not answer."""
        if not message_ids:
            return set()
        if self._probing is not None:
            return None
        try:
            return await dead_lettered(self._pool, message_ids, within=self._timeout)
        except Outage as error:
            self._suspend(error)
            return None

    async def close(self) -> None:
        """Stop the probe, if one is under way, and give the connections back to the pool."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait((self._probing,))
        await self._connections.close()

    def _suspend(self, error: Outage) -> None:
        if self._probing is None:
            _log.warning("Row lookup suspended until PostgreSQL answers", error=str(error))
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            await asyncio.sleep(backoff.next())
            with suppress(Outage):
                await answers(self._connections, [_PROBE], within=self._timeout)
                break
        self._probing = None
        _log.info("Row lookup resumed: PostgreSQL answers")


def remembered(row: StoredAnswer) -> Remembered:
    """Return the first acceptance of a message, by its row."""
    return Remembered("", row.accepted_at, row.fingerprint, row.correlation_id)
