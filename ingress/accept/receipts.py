"""Receipts: into the log, in their message's partition, so that they can't overtake it."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from ingress.accept.group_commit import GroupCommit
from ingress.accept.submission import ReceiptSubmission, Stored
from ingress.messages import Dead, Found, Messages, visible
from ingress.schema.problems import GONE, NOT_FOUND, STATE, Problem
from ingress.web.key_entries import ApiKey
from otel.tracing.requests import Trace
from persistence.database.pool import Pool
from persistence.reads import messages as queries
from persistence.reads.messages import StoredMessage, StoredReceipt
from persistence.reads.tombstones import Buried, buried
from transport.clock import timestamp
from transport.message.envelope import Receipt

__all__ = ["Receipts"]

_NEVER_ARCHIVED_BEFORE = 12 * 3600.0
"""Seconds. ROWS_RETENTION_DAYS is one at least; clocks may be apart by the rest."""


class Receipts:
    """Records and lists the receipts of messages that exist, with a row or on their way to one.

    Args:
        commits: takes receipts into the log.
        messages: finds the messages.
        pool: connections to PostgreSQL.
        timeout_seconds: how long to wait for PostgreSQL.
    """

    def __init__(
        self, *, commits: GroupCommit, messages: Messages, pool: Pool, timeout_seconds: float
    ) -> None:
        self._commits = commits
        self._messages = messages
        self._pool = pool
        self._timeout = timeout_seconds

    async def record(
        self,
        message_id: str,
        user_id: str,
        state: Literal["delivered", "read"],
        *,
        correlation_id: str,
        trace: Trace,
        key: ApiKey | None,
    ) -> Stored:
        """Record a receipt; return the first one of its kind, ``fresh`` if it is this one.

        A key with a conversation prefix may give it for all messages of such conversations; other
        messages do not exist for it.

        Raises:
            Problem: there is no such message, its row is gone, it is a dead letter, or the log did
                not take it.
        """
        prefix = key.conversation_prefix if key else ""
        found = await self._messages.find(message_id, content=bool(prefix))
        if found is None or (prefix and not _conversation(found).startswith(prefix)):
            raise Problem(NOT_FOUND, f"There is no message {message_id}.")
        if isinstance(found, Buried):
            raise Problem(GONE, f"Message {message_id} was {found.state}.")
        if isinstance(found, Dead):
            detail = f"Message {message_id} is dead letter {found.lost.id}; redrive it first."
            raise Problem(STATE, detail)
        if isinstance(found, StoredMessage):
            at = await self._recorded(message_id, user_id, state)
            if at is not None:
                return Stored(at, "", correlation_id, "persisted")
            await self._must_stay(message_id, found)
        receipt = Receipt(message_id, user_id, state, correlation_id=correlation_id)
        submission = ReceiptSubmission(receipt, trace, persisted=isinstance(found, StoredMessage))
        await self._commits.submit((submission,))
        return submission.stored()

    async def _must_stay(self, message_id: str, found: StoredMessage) -> None:
        """Return unless the row goes to the archive: no worker writes its receipts any more.

        Until the archive has it, the row is there, for days where the store is down.
        """
        if found.persisted_at > timestamp(time.time() - _NEVER_ARCHIVED_BEFORE):
            return
        async with asyncio.timeout(self._timeout):
            if gone := await buried(self._pool, message_id):
                raise Problem(GONE, f"Message {message_id} is being {gone.state}.")

    async def of(self, message_id: str, limit: int, *, key: ApiKey | None) -> list[StoredReceipt]:
        """Return up to ``limit`` of a message's receipts, oldest first.

        Raises:
            Problem: there is no such message that ``key`` may read.
        """
        limited = key is not None and key.limited
        found = await self._messages.find(message_id, content=limited)
        if found is None or not visible(found, key):
            raise Problem(NOT_FOUND, f"There is no message {message_id}.")
        if isinstance(found, Buried):
            raise Problem(GONE, f"Message {message_id} was {found.state}.")
        async with asyncio.timeout(self._timeout):
            return await queries.receipts(self._pool, message_id, limit)

    async def _recorded(self, message_id: str, user_id: str, state: str) -> str | None:
        """Return the time at which this very receipt was recorded, if it was."""
        async with asyncio.timeout(self._timeout):
            return await queries.receipt_at(self._pool, message_id, user_id, state)


def _conversation(found: Found) -> str:
    """Return the message's conversation; nothing where the message can't be read."""
    return found.message.conversation_id if found.message else ""
