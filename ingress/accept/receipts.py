"""Receipts are appended to their message's partition, so that they can't overtake the message."""

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
"""Seconds. The archive takes no younger rows: ROWS_RETENTION_DAYS is at least one day, and the
difference allows for clocks that disagree."""


class Receipts:
    """Records and lists receipts of messages that have a row or wait in the log.

    Args:
        commits: Appends receipts to the log.
        messages: Finds the messages.
        pool: Connections to PostgreSQL.
        timeout_seconds: How long to wait for PostgreSQL.
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
        """Record a receipt, once for each message, user and state.

        A key with a prefix may record a receipt of a message that it may read, and of a message in
        its conversations that ``user_id`` is a recipient of. For other messages the answer is 404,
        so that the key does not learn which ids exist.

        Returns:
            The first such receipt. ``fresh`` is true if this call recorded it.

        Raises:
            Problem: There is no such message, it was archived or erased, it is a dead letter, or
                the log did not take the receipt.
        """
        limited = key is not None and key.limited
        found = await self._messages.find(message_id, content=limited)
        if found is None or not (visible(found, key) or _received(found, user_id, key)):
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
        """Refuse a receipt whose message is being archived: no worker would store the receipt.

        Such a row stays in PostgreSQL until the archive has it, for days if the store is down.

        Raises:
            Problem: The message is being archived or erased (410).
        """
        if found.persisted_at > timestamp(time.time() - _NEVER_ARCHIVED_BEFORE):
            return
        async with asyncio.timeout(self._timeout):
            if gone := await buried(self._pool, message_id):
                raise Problem(GONE, f"Message {message_id} is being {gone.state}.")

    async def of(self, message_id: str, limit: int, *, key: ApiKey | None) -> list[StoredReceipt]:
        """Return up to ``limit`` of a message's receipts, oldest first.

        Raises:
            Problem: There is no such message that ``key`` may read, or it was archived or erased.
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
        """Return the time at which this receipt was recorded, or ``None`` if it was not."""
        async with asyncio.timeout(self._timeout):
            return await queries.receipt_at(self._pool, message_id, user_id, state)


def _received(found: Found, user_id: str, key: ApiKey | None) -> bool:
    """Return whether the user is a recipient of the message, in a conversation of ``key``."""
    message = found.message
    return (
        message is not None
        and user_id in message.recipient_ids
        and (key is None or key.sees(user_id, message.conversation_id))
    )
