"""Pages of a log's records, in both directions. No consumer group is used.

A page has a limit in bytes, even if records are large: one read of a log has such a limit, and only
the beginning of each record is shown. A large page is read again and sent in pieces.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from fastapi import Response
from msgspec.structs import replace

from ingress.console.views import LogRecord, LogRecords
from ingress.routes.dead_letter_models import RecordHeader
from ingress.routes.pieces import page_answer
from ingress.web.key_entries import ApiKey
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads.tombstones import erased
from transport.contract import READ_BYTES, Record, Topic, Transport
from transport.deadline import answer
from transport.errors import DecodeError, TransportUnavailable
from transport.message.envelope import Message, decode
from transport.sizes import size_of

__all__ = ["BrowsedPlace", "RecordPage", "Records", "page_of"]

_BODY_BYTES = 16 * 1024
"""The most bytes of a body in a page."""
_HEADERS = 50
_HEADER_CHARACTERS = 500
_T = TypeVar("_T")


class BrowsedPlace(msgspec.Struct, frozen=True):
    """The place of a page: after, before or at an offset, from a time on, or at the log's end."""

    kind: Literal["after", "before", "at", "time", "end"]
    offset: str = ""
    time: float = 0.0


class RecordPage(msgspec.Struct):
    """The records of one page, in log order."""

    records: Sequence[Record]
    ended: bool
    """Whether no record follows in the direction of reading."""


class Records:
    """Reads pages of one log for the console."""

    def __init__(self, log: Transport, pool: Pool, *, timeout_seconds: float) -> None:
        self._log = log
        self._pool = pool
        self._timeout = timeout_seconds

    async def page(
        self, topic: Topic, partition: int, place: BrowsedPlace, *, limit: int, key: ApiKey | None
    ) -> Response:
        """Return the answer with up to ``limit`` records at ``place``, in log order.

        For a ``key`` with a prefix, only messages that the key may read.

        Raises:
            ValueError: The offset is not one of this log's.
            TransportUnavailable: The log does not answer.
        """
        page = await self._in_time(self._read(topic, partition, place, limit))
        back = place.kind in {"before", "end"}
        records = page.records
        empty = LogRecords(
            log=self._log.name,
            topic="messages" if topic is Topic.MESSAGES else "dead_letters",
            partition=partition,
            items=[],
            first=records[0].offset if records else None,
            last=records[-1].offset if records else None,
            at_beginning=back and page.ended,
            at_end=place.kind == "end" or (not back and page.ended),
        )

        async def again(offsets: Sequence[str]) -> list[LogRecord]:
            found = await self._in_time(self._at(topic, partition, offsets))
            return [record for record in await self._seen(found, key) if record is not None]

        return page_answer(
            empty,
            [
                (record.offset, seen)
                for record, seen in zip(records, await self._seen(records, key), strict=True)
            ],
            read=again,
            ended_after=lambda offset: replace(empty, last=offset, at_end=False),
        )

    async def _in_time(self, asking: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await answer(asking, within=self._timeout)
        except TimeoutError as error:
            name, seconds = self._log.name, self._timeout
            raise TransportUnavailable(f"{name} gave no answer in {seconds:g} s") from error

    async def _seen(self, records: Sequence[Record], key: ApiKey | None) -> list[LogRecord | None]:
        """Return what ``key`` sees of the records; ``None`` for one that it may not see."""
        shown = await self._without_erased([_shown(self._log, record) for record in records])
        return [record if key is None or _may_see(key, record) else None for record in shown]

    async def _without_erased(self, records: list[LogRecord]) -> list[LogRecord]:
        """Hide the content of erased messages, which the log has until its retention ends.

        If PostgreSQL can't say which messages are erased, all records are shown.
        """
        ids = [record.message_id for record in records if record.message_id]
        try:
            async with asyncio.timeout(self._timeout):
                gone = await erased(self._pool, ids)
        except (Outage, TimeoutError):
            return records
        return [_erased(record) if record.message_id in gone else record for record in records]

    async def _at(self, topic: Topic, partition: int, offsets: Sequence[str]) -> list[Record]:
        """Return the records at these adjacent offsets. Those that the log removed are left out."""
        found: list[Record] = []
        after = self._log.offset_before(offsets[0])
        while (left := len(offsets) - len(found)) and (
            some := await self._log.read(topic, partition, after=after, limit=left)
        ):
            found += some
            after = some[-1].offset
        wanted = set(offsets)
        return [record for record in found if record.offset in wanted]

    async def _read(
        self, topic: Topic, partition: int, place: BrowsedPlace, limit: int
    ) -> RecordPage:
        log = self._log
        match place.kind:
            case "after":
                log.offset_before(place.offset)  # raises if the offset is not valid
                after: str | None = place.offset
            case "at":
                after = log.offset_before(place.offset)
            case "time":
                after = await log.offset_before_time(topic, partition, place.time)
            case "before":
                return await self._back(topic, partition, place.offset, limit)
            case "end":
                return await self._back(topic, partition, None, limit)
        return page_of(await log.read(topic, partition, after=after, limit=limit), limit)

    async def _back(
        self, topic: Topic, partition: int, before: str | None, limit: int
    ) -> RecordPage:
        read = await self._log.read_back(topic, partition, before=before, limit=limit)
        return page_of(read, limit)


def page_of(records: Sequence[Record], limit: int) -> RecordPage:
    """Return a page of the records of one read. A read ends early if records are large."""
    whole = len(records) < limit and sum(map(size_of, records)) < READ_BYTES
    return RecordPage(records, ended=whole)


def _may_see(key: ApiKey, record: LogRecord) -> bool:
    return key.sees(record.sender_id, record.conversation_id)


def _shown(log: Transport, record: Record) -> LogRecord:
    headers = [
        RecordHeader(name=_cut(_plain(name)), value=_cut(value.decode("utf-8", "backslashreplace")))
        for name, value in list(record.headers.items())[:_HEADERS]
    ]
    shown = LogRecord(
        offset=record.offset,
        place=f"{log.name} {record.partition}:{record.offset}",
        appended_at=record.appended_at,
        key=_cut(_plain(record.key)),
        size=size_of(record),
        headers=headers,
        more_headers=max(0, len(record.headers) - _HEADERS),
        body_base64=b64encode(record.body[:_BODY_BYTES]).decode(),
        body_size=len(record.body),
        kind="unreadable",
    )
    try:
        event = decode(record)
    except DecodeError as error:
        return replace(shown, error=_cut(str(error)))
    if not isinstance(event, Message):
        return replace(shown, kind="receipt", message_id=event.message_id)
    return replace(
        shown,
        kind="message",
        message_id=event.message_id,
        conversation_id=event.conversation_id,
        sender_id=event.sender_id,
    )


def _erased(shown: LogRecord) -> LogRecord:
    return LogRecord(
        offset=shown.offset,
        place=shown.place,
        appended_at=shown.appended_at,
        key="",
        size=shown.size,
        headers=[],
        more_headers=0,
        body_base64="",
        body_size=shown.body_size,
        kind="unreadable",
        message_id=shown.message_id,
        error="The message was erased. The log has its bytes until its retention is over.",
    )


def _plain(text: str) -> str:
    """Return ``text`` with bytes that are not UTF-8 (kept as surrogates) written as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _cut(text: str) -> str:
    return text if len(text) <= _HEADER_CHARACTERS else f"{text[:_HEADER_CHARACTERS]}…"
