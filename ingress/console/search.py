"""Find messages by message id, client message id, correlation id or conversation; anywhere.

Rows are found by index. What is not a row yet is looked for among the records that wait in the
log and among the pending dead letters, as far back as the limits below go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from uuid import UUID

from ingress.console.views import FoundMessage, FoundMessages, Matched
from ingress.key_entries import ApiKey
from ingress.responses import State
from persistence import search
from persistence.database import Pool
from persistence.errors import Outage
from persistence.when import rfc3339
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.envelope import Message, decode
from transport.errors import DecodeError, TransportError
from transport.partitioner import partition_for

__all__ = ["Search"]

_MOST = 50
_WAITING = 200
"""Records of each partition that are looked through; of the conversation's own, ten times that."""
_BYTES = 16 * 1024 * 1024
"""Bytes of each partition's records that are looked through."""
_PAGE = 50
_AT_ONCE = 4
_LETTERS = 300


class Search:
    """Looks in PostgreSQL, then in the log that workers read."""

    def __init__(self, transport: Transport, pool: Pool, *, timeout_seconds: float) -> None:
        self._transport = transport
        self._pool = pool
        self._timeout = timeout_seconds

    async def find(self, text: str, key: ApiKey | None = None) -> FoundMessages:
        """Return the messages that have ``text`` as one of their ids or as their conversation.

        Of a ``key`` with a prefix, those that it may read.
        """
        gaps: list[str] = []
        rows, letters, waiting = await asyncio.gather(
            self._guarded(self._rows(text), "PostgreSQL", gaps),
            self._guarded(self._letters(text), "the dead letters", gaps),
            self._guarded(self._waiting(text), f"the log {self._transport.name}", gaps),
        )
        found: dict[str, FoundMessage] = {}
        for one in (*rows, *letters, *waiting):  # a row before a dead letter before a record
            found.setdefault(one.message_id, one)
        seen = [
            one
            for one in found.values()
            if key is None or key.sees(one.sender_id, one.conversation_id)
        ]
        items = sorted(seen, key=lambda one: one.accepted_at or "", reverse=True)
        more = len(rows) > _MOST and not (key and key.limited)  # of others' it is told nothing
        return FoundMessages(
            items=items[:_MOST],
            more=len(items) > _MOST or more,
            incomplete=f"Could not be asked: {'; '.join(gaps)}." if gaps else None,
        )

    async def _guarded(
        self, asking: Awaitable[list[FoundMessage]], what: str, gaps: list[str]
    ) -> list[FoundMessage]:
        try:
            async with asyncio.timeout(self._timeout):
                return await asking
        except (Outage, TransportError, TimeoutError) as error:
            gaps.append(f"{what} ({' '.join(str(error).split()) or 'no answer in time'})")
            return []

    async def _rows(self, text: str) -> list[FoundMessage]:
        rows = await search.messages_with(self._pool, text, _uuid(text), _MOST + 1)
        return [
            FoundMessage(
                message_id=str(row["id"]),
                matched=_matched(
                    text,
                    str(row["id"]),
                    row["client_message_id"],
                    row["correlation_id"],
                    row["conversation_id"],
                ),
                state="persisted",
                conversation_id=row["conversation_id"],
                sender_id=row["sender_id"],
                client_message_id=row["client_message_id"],
                correlation_id=row["correlation_id"],
                accepted_at=rfc3339(row["accepted_at"]),
            )
            for row in rows
        ]

    async def _letters(self, text: str) -> list[FoundMessage]:
        named = await search.dead_letters_with(self._pool, text, _uuid(text), _MOST)
        latest = await search.latest_dead_letters(self._pool, _LETTERS)
        found = []
        for row in (*named, *latest):
            message = None if row["body"] is None else _message(row["body"])
            if message is None and row["message_id"] is None:
                continue
            one = _found(text, message, str(row["message_id"] or ""), "dead_lettered")
            if one.matched:
                found.append(one)
        return found

    async def _waiting(self, text: str) -> list[FoundMessage]:
        """Look through records that are not acknowledged; all at once, each as far as allowed."""
        log = self._transport
        home = partition_for(text, log.partitions)
        behind = [
            one
            for one in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            if one.lag is None or one.lag > 0
        ]
        at_once = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(
            *(
                self._partition(text, one, _WAITING * (10 if one.partition == home else 1), at_once)
                for one in behind
            )
        )
        return [one for part in found for one in part]

    async def _partition(
        self, text: str, progress: Progress, limit: int, at_once: asyncio.Semaphore
    ) -> list[FoundMessage]:
        """Look through the records of one partition; few are held at once, they may be large."""
        found: list[FoundMessage] = []
        after, bytes_left = progress.floor, _BYTES
        while limit > 0 and bytes_left > 0:
            async with at_once:
                records = await self._transport.read(
                    Topic.MESSAGES, progress.partition, after=after, limit=min(_PAGE, limit)
                )
                found.extend(self._among(text, records))
            if len(records) < _PAGE:
                break
            after = records[-1].offset
            limit -= len(records)
            bytes_left -= sum(len(record.body) for record in records)
        return found

    def _among(self, text: str, records: Iterable[Record]) -> Iterable[FoundMessage]:
        for record in records:
            try:
                event = decode(record)
            except DecodeError:
                continue
            if isinstance(event, Message):
                one = _found(text, event, event.message_id, "pending")
                if one.matched:
                    yield one


def _found(text: str, message: Message | None, identifier: str, state: State) -> FoundMessage:
    return FoundMessage(
        message_id=identifier or (message.message_id if message else ""),
        matched=_matched(
            text,
            identifier,
            message.client_message_id if message else None,
            message.correlation_id if message else None,
            message.conversation_id if message else None,
        ),
        state=state,
        conversation_id=message.conversation_id if message else None,
        sender_id=message.sender_id if message else None,
        client_message_id=message.client_message_id if message else None,
        correlation_id=message.correlation_id if message else None,
        accepted_at=message.accepted_at if message else None,
    )


def _matched(
    text: str,
    identifier: str,
    client: str | None,
    correlation: str | None,
    conversation: str | None,
) -> list[Matched]:
    matched: list[Matched] = []
    if identifier == text.lower():
        matched.append("message id")
    if client == text:
        matched.append("client message id")
    if correlation == text:
        matched.append("correlation id")
    if conversation == text:
        matched.append("conversation")
    return matched


def _message(body: bytes) -> Message | None:
    try:
        event = decode(Record(Topic.MESSAGES, 0, "", "", body, {}, 0.0))
    except DecodeError:
        return None
    return event if isinstance(event, Message) else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
