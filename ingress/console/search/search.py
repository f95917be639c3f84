"""The search for messages by any of their ids, an offset, a sender, a conversation or a time.

Rows are found by index. Messages without a row are searched among the records that wait in the log
and among the pending dead letters, within the limits below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

import asyncpg
import msgspec
from msgspec.structs import replace

from ingress.console.search.found_row import found_row
from ingress.console.search.position_search import PositionSearch
from ingress.console.search.query import SearchQuery
from ingress.console.views import FoundMessage, FoundMessages, FoundPage, Matched
from ingress.schema.responses import State
from ingress.web.key_entries import ApiKey
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads import recent, search
from persistence.reads.tombstones import buried, erased
from persistence.timestamps import rfc3339
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import DecodeError, TransportError, one_line
from transport.message.envelope import Message, decode
from transport.message.partitioner import partition_for

__all__ = ["Listing", "Search"]

_MOST = 50
_WAITING = 200
"""The most records of a partition to search; ten times as many in the conversation's partition."""
_BYTES = 16 * 1024 * 1024
"""The most bytes of a partition's records to search."""
_PAGE = 50
_AT_ONCE = 4
_LETTERS = 300

_Match = Callable[[str, Message | None], list[Matched]]
"""Returns the fields by which a message (or only its id, if ``None``) matches a search."""


class Listing(msgspec.Struct, frozen=True):
    """The filters of a listing. A message has to match all that are set."""

    conversation: str | None = None
    sender: str | None = None
    since: datetime | None = None

    def matched(self, _identifier: str, message: Message | None) -> list[Matched]:
        """Return the fields by which a message belongs to the listing; empty if it does not."""
        if message is None:
            return []
        if self.conversation not in {None, message.conversation_id}:
            return []
        if self.sender not in {None, message.sender_id}:
            return []
        if self.since is not None and not _later(message.accepted_at, self.since):
            return []
        return self.named

    @property
    def named(self) -> list[Matched]:
        """The fields by which the listing's rows are found."""
        found: list[Matched] = ["conversation"] if self.conversation is not None else []
        return [*found, "sender"] if self.sender is not None else found or ["time"]


class Search:
    """Finds messages by an id or a conversation, among rows, dead letters and waiting records.

    Args:
        transport: The log that workers read.
        pool: Connections to PostgreSQL, for rows and dead letters.
        logs: All logs that this process can read, by name, for searches by offset.
        timeout_seconds: The longest wait for each source.
    """

    def __init__(
        self,
        transport: Transport,
        pool: Pool,
        *,
        logs: Mapping[str, Transport],
        timeout_seconds: float,
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._logs = logs
        self._positions = PositionSearch(pool, logs)
        self._timeout = timeout_seconds

    async def find(self, text: str, key: ApiKey | None = None) -> FoundMessages:
        """Return the messages that have ``text`` as one of their ids or as their conversation.

        ``text`` may also be the beginning of a message id, a dead letter's number, or an offset of
        a log. For a ``key`` with a prefix, only messages that the key may read.
        """
        gaps: list[str] = []
        notes: list[str] = []
        query = SearchQuery.of(text, self._logs)
        at_offset, rows, letters, tombstones, waiting = await asyncio.gather(
            self._guarded(self._positions.find(query.position, notes), "the place", gaps),
            self._guarded(self._rows(query), "PostgreSQL", gaps),
            self._guarded(self._letters(query), "the dead letters", gaps),
            self._guarded(self._buried(query), "the tombstones", gaps),
            self._waiting_of(query.matched, text, gaps),
        )
        # A row comes before a dead letter and a dead letter before a record, so that `_once` keeps
        # the row. The message at an offset comes first, because the search names it.
        found = _once([*at_offset, *rows, *tombstones, *letters, *waiting])
        seen = _visible(await self._without_erased(found), key)
        items = sorted(seen, key=lambda m: (_exact(m), m.accepted_at or ""), reverse=True)
        more = len(rows) > _MOST and not (key and key.limited)  # hides others' messages from a key
        secret = key is not None and key.limited and not items
        return FoundMessages(
            items=items[:_MOST],
            more=len(items) > _MOST or more,
            note=None if secret else " ".join(notes) or None,
            incomplete=_incomplete(gaps),
        )

    async def latest(
        self,
        listing: Listing,
        *,
        before: recent.RecentPlace | None,
        limit: int,
        key: ApiKey | None = None,
    ) -> tuple[FoundPage, recent.RecentPlace | None]:
        """Return a page of a listing, newest first, and the place of the next page, if any.

        The first page begins with the messages that have no row yet. For a ``key`` with a prefix,
        only messages that the key may read.

        Raises:
            Outage, TimeoutError: PostgreSQL does not answer.
        """
        gaps: list[str] = []
        async with asyncio.timeout(self._timeout):
            looked = await recent.latest(
                self._pool,
                conversation=listing.conversation,
                sender=listing.sender,
                since=listing.since,
                before=before,
                limit=limit,
            )
        on_the_way: list[FoundMessage] = []
        if before is None:
            letters, waiting = await asyncio.gather(
                self._guarded(self._pending_letters(listing.matched), "the dead letters", gaps),
                self._waiting_of(listing.matched, listing.conversation, gaps),
            )
            ordered = sorted([*letters, *waiting], key=lambda m: m.accepted_at or "", reverse=True)
            there = {row.id for row in looked.rows}
            known = await self._without_erased([m for m in ordered if m.message_id not in there])
            on_the_way = [m for m in known if m.state != "erased"][:_MOST]
        rows = [found_row(msgspec.structs.asdict(row), listing.named) for row in looked.rows]
        cut = looked.next is not None and len(rows) < limit
        page = FoundPage(
            items=_visible(_once([*on_the_way, *rows]), key),
            next=None,
            looked_back_to=rfc3339(looked.next.at) if looked.next and cut else None,
            incomplete=_incomplete(gaps),
        )
        return page, looked.next

    async def _guarded(
        self, asking: Awaitable[list[FoundMessage]], what: str, gaps: list[str]
    ) -> list[FoundMessage]:
        try:
            async with asyncio.timeout(self._timeout):
                return await asking
        except (Outage, TransportError, TimeoutError) as error:
            gaps.append(f"{what} ({one_line(error, empty='no answer in time')})")
            return []

    async def _rows(self, query: SearchQuery) -> list[FoundMessage]:
        rows = await search.messages_with(self._pool, query.text, query.identifier, _MOST + 1)
        if query.first is not None and query.last is not None:
            rows += await search.messages_like(self._pool, query.first, query.last, _MOST + 1)
        return [found_row(row, query.matched(str(row["id"]), _as_message(row))) for row in rows]

    async def _buried(self, query: SearchQuery) -> list[FoundMessage]:
        if query.identifier is None:
            return []
        identifier = str(query.identifier)
        found = await buried(self._pool, identifier)
        return [] if found is None else [_gone(identifier, found.state, ["message id"])]

    async def _without_erased(self, found: list[FoundMessage]) -> list[FoundMessage]:
        """Reduce erased messages, whose records a log may still have, to their ids."""
        ids = [message.message_id for message in found if message.message_id]
        try:
            async with asyncio.timeout(self._timeout):
                gone = await erased(self._pool, ids)
        except (Outage, TimeoutError):
            return found
        return [
            _gone(message.message_id, "erased", message.matched)
            if message.message_id in gone
            else message
            for message in found
        ]

    async def _letters(self, query: SearchQuery) -> list[FoundMessage]:
        pool = self._pool
        named = await search.dead_letters_with(pool, query.text, query.identifier, _MOST)
        if query.first is not None and query.last is not None:
            named += await search.dead_letters_like(pool, query.first, query.last, _MOST)
        numbered = []
        if query.letter:
            numbered = await search.dead_letter_at(pool, query.letter)
        found = [_letter(row, ["dead letter"]) for row in numbered]
        for row in named:
            found += _matching(row, query.matched)
        return [*found, *await self._pending_letters(query.matched)]

    async def _pending_letters(self, matched: _Match) -> list[FoundMessage]:
        rows = await search.latest_dead_letters(self._pool, _LETTERS)
        return [message for row in rows for message in _matching(row, matched)]

    async def _waiting_of(
        self, matched: _Match, conversation: str | None, gaps: list[str]
    ) -> list[FoundMessage]:
        name = f"the log {self._transport.name}"
        return await self._guarded(self._waiting(matched, conversation), name, gaps)

    async def _waiting(self, matched: _Match, conversation: str | None) -> list[FoundMessage]:
        """Search the records without a row of all partitions concurrently, within the limits."""
        log = self._transport
        home = None if conversation is None else partition_for(conversation, log.partitions)
        behind = [
            part
            for part in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            if part.lag is None or part.lag > 0
        ]
        at_once = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(
            *(
                self._partition(
                    matched, part, _WAITING * (10 if part.partition == home else 1), at_once
                )
                for part in behind
            )
        )
        return [message for part in found for message in part]

    async def _partition(
        self, matched: _Match, progress: Progress, limit: int, at_once: asyncio.Semaphore
    ) -> list[FoundMessage]:
        """Search one partition's records in small pages, because records may be large."""
        found: list[FoundMessage] = []
        after, bytes_left = progress.floor, _BYTES
        while limit > 0 and bytes_left > 0:
            async with at_once:
                records = await self._transport.read(
                    Topic.MESSAGES, progress.partition, after=after, limit=min(_PAGE, limit)
                )
                found.extend(_among(matched, records))
            if not records or records[-1].offset == progress.end:
                break
            after = records[-1].offset
            limit -= len(records)
            bytes_left -= sum(len(record.body) for record in records)
        return found


def _among(matched: _Match, records: Iterable[Record]) -> Iterable[FoundMessage]:
    for record in records:
        message = _message(record)
        if message is not None and (names := matched(message.message_id, message)):
            yield _found(message, message.message_id, "pending", names)


def _once(found: Iterable[FoundMessage]) -> list[FoundMessage]:
    """Return each message once, as first found, with the matched fields of all its finds."""
    kept: dict[object, FoundMessage] = {}
    for message in found:
        name = message.message_id or message.dead_letter_id or message.position
        first = kept.setdefault(name, message)
        more = [what for what in message.matched if what not in first.matched]
        if more:
            kept[name] = replace(first, matched=[*first.matched, *more])
    return list(kept.values())


def _visible(found: Iterable[FoundMessage], key: ApiKey | None) -> list[FoundMessage]:
    return [
        message
        for message in found
        if key is None or key.sees(message.sender_id, message.conversation_id)
    ]


def _exact(message: FoundMessage) -> bool:
    return message.matched != ["beginning of the message id"]


def _incomplete(gaps: list[str]) -> str | None:
    return f"Could not be asked: {'; '.join(gaps)}." if gaps else None


def _as_message(row: asyncpg.Record) -> Message:
    return Message(
        conversation_id=row["conversation_id"],
        sender_id=row["sender_id"],
        client_message_id=row["client_message_id"],
        content="",
        content_type="",
        correlation_id=row["correlation_id"],
    )


def _matching(row: asyncpg.Record, matched: _Match) -> Iterable[FoundMessage]:
    letter = _letter(row, [])
    if letter.message_id and (names := matched(letter.message_id, _in(row))):
        yield replace(letter, matched=names)


def _letter(row: asyncpg.Record, matched: list[Matched]) -> FoundMessage:
    message = _in(row)
    identifier = str(row["message_id"] or "") or (message.message_id if message else None)
    found = _found(message, identifier, "dead_lettered", matched)
    return replace(found, dead_letter_id=row["id"])


def _in(row: asyncpg.Record) -> Message | None:
    if row["body"] is None:
        return None
    return _message(Record(Topic.MESSAGES, 0, "", "", row["body"], {}, 0.0))


def _found(
    message: Message | None, identifier: str | None, state: State, matched: list[Matched]
) -> FoundMessage:
    return FoundMessage(
        message_id=identifier,
        matched=matched,
        state=state,
        conversation_id=message.conversation_id if message else None,
        sender_id=message.sender_id if message else None,
        client_message_id=message.client_message_id if message else None,
        correlation_id=message.correlation_id if message else None,
        accepted_at=message.accepted_at if message else None,
    )


def _gone(identifier: str | None, state: State, matched: list[Matched]) -> FoundMessage:
    return FoundMessage(message_id=identifier, matched=matched, state=state)


def _message(record: Record) -> Message | None:
    try:
        event = decode(record)
    except DecodeError:
        return None
    return event if isinstance(event, Message) else None


def _later(text: str, since: datetime) -> bool:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return True  # the time is not known
    return moment.tzinfo is None or moment >= since
