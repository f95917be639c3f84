"""The search for a message by id: in its row, its tombstone, the dead letters, or the log."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from ingress.arriving import ArrivingRows
from ingress.pending import Pending, PendingMessages
from ingress.schema.problems import DATABASE_UNAVAILABLE, Problem
from ingress.schema.retry_after import AWAY
from ingress.web.key_entries import ApiKey
from persistence.database.pool import Pool
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.errors import Outage
from persistence.reads import messages as queries
from persistence.reads.messages import MessageDeadLetter, StoredMessage
from persistence.reads.tombstones import Buried, buried
from transport.contract import Record, Topic, Transport
from transport.errors import DecodeError, TransportUnavailable
from transport.message.envelope import Message, decode
from transport.message.identity import partition_of

__all__ = ["Dead", "Found", "Messages", "Pending", "visible"]


class Dead(msgspec.Struct, frozen=True):
    """A message that is a dead letter.

    ``message`` is ``None`` if it was not asked for, or if the record can't be decoded.
    """

    lost: MessageDeadLetter
    message: Message | None = None


class _LogAnswer(NamedTuple):
    """The log's answer: the message in its record, and the remembered answer to its append."""

    found: Pending | None
    remembered: Pending | None
    failure: TransportUnavailable | Problem | Outage | None = None
    """The error, if the log could not answer, or only PostgreSQL could tell more."""


Found = StoredMessage | Dead | Pending | Buried


def visible(found: Found, key: ApiKey | None) -> bool:
    """Return whether ``key`` may read the message.

    A key with a prefix may not read a message whose sender or conversation is unknown.
    """
    if key is None or not key.limited:
        return True
    message = found.message
    return message is not None and key.sees(message.sender_id, message.conversation_id)


class Messages:
    """Finds messages by id: a row, a tombstone, a dead letter, or a record that waits in the log.

    Args:
        transport: The log that workers read.
        pool: Connections to PostgreSQL.
        scan: The most records of a partition to read in a search.
        timeout_seconds: How long to wait for PostgreSQL.
        arriving: Waits for rows, if the log remembers no ids.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        pool: Pool,
        scan: int,
        timeout_seconds: float,
        arriving: ArrivingRows | None = None,
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._letters = DeadLetters(pool)
        self._pending = PendingMessages(transport, pool, scan)
        self._arriving = arriving or ArrivingRows(pool, timeout_seconds)
        self._timeout = timeout_seconds

    async def find(self, message_id: str, *, content: bool) -> Found | None:
        """Return the message, or ``None`` if it is nowhere.

        Args:
            message_id: The message's id.
            content: Whether the content of a pending message or a dead letter is needed too.

        Raises:
            Problem: PostgreSQL can't answer, and the message was not found in the log; or there is
                no row, and more records wait in the log than are searched.
            TransportUnavailable: There is no row, and the log can't answer.
        """
        outage: Exception | None = None
        try:
            stored = await self._stored_soon(message_id, content=content)
        except (Outage, TimeoutError) as error:
            outage = error
        else:
            if stored is not None:
                return stored
        log = await self._in_the_log(message_id, content=content)
        if log.found is not None:
            return log.found
        if outage is None:
            # The message may have moved from the log to its row between the two looks. If it has no
            # row either, it is on its way to the dead letters.
            try:
                found = await self._stored(message_id, content=content) or log.remembered
            except (Outage, TimeoutError) as error:
                outage = error
            else:
                if found is not None or log.failure is None:
                    return found
        raise _unknown(outage, log.failure)

    async def _in_the_log(self, message_id: str, *, content: bool) -> _LogAnswer:
        remembered = None
        try:
            remembered = await self._remembered(message_id)
            if remembered is not None and not content:
                return _LogAnswer(remembered, remembered)
            return _LogAnswer(await self._pending.find(message_id), remembered)
        except (TransportUnavailable, Problem, Outage) as error:
            return _LogAnswer(None, remembered, error)

    async def _stored_soon(
        self, message_id: str, *, content: bool
    ) -> StoredMessage | Buried | Dead | None:
        """Return as ``_stored`` does; if the log remembers no ids, wait a moment for the row."""
        stored = await self._stored(message_id, content=content)
        if stored is not None or self._transport.features.remembers:
            return stored
        if await self._arriving.arrives(message_id):
            return await self._stored(message_id, content=content)
        return None

    async def _stored(
        self, message_id: str, *, content: bool
    ) -> StoredMessage | Buried | Dead | None:
        async with asyncio.timeout(self._timeout):
            row = await queries.message(self._pool, message_id) or await buried(
                self._pool, message_id
            )
            if row is not None:
                return row
            lost = await queries.dead_letter_of(self._pool, message_id)
            if lost is None or not content:
                return Dead(lost) if lost else None
            letter = await self._letters.get(lost.id)
        return Dead(lost, _message(letter[1].body) if letter else None)

    async def _remembered(self, message_id: str) -> Pending | None:
        first = (await self._transport.recall([message_id]))[0]
        if first is None:
            return None
        partition = partition_of(message_id, self._transport.partitions)
        return Pending(
            self._transport.name,
            partition,
            first.offset,
            first.accepted_at,
            first.correlation_id,
        )


def _unknown(outage: Exception | None, failure: Exception | None) -> Exception:
    """Return the error that says which could not be asked: PostgreSQL, the log, or both."""
    if isinstance(failure, Outage):
        outage, failure = outage or failure, None
    if outage is None and failure is not None:
        return failure
    detail = "The message does not wait in the log, and the database can't be asked."
    if isinstance(failure, Problem):
        detail = f"The database can't be asked. {failure.detail}"
    elif failure is not None:
        detail = "Neither the database nor the log can be asked for the message."
    problem = Problem(DATABASE_UNAVAILABLE, detail, headers=AWAY)
    problem.__cause__ = outage
    return problem


def _message(body: bytes) -> Message | None:
    try:
        event = decode(Record(Topic.MESSAGES, 0, "", "", body, {}, 0.0))
    except DecodeError:
        return None
    return event if isinstance(event, Message) else None
