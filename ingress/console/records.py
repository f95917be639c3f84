"""Records as they stand in a log, page by page, in both directions. Touches no group.

A page is bounded in bytes, however large records are: one reading of a log is, and of each record
only so much is given.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from ingress.console.views import LogRecord, LogRecords
from ingress.routes.dead_letter_models import RecordHeader
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
"""The most bytes of a body that are shown."""
_HEADERS = 50
_HEADER_CHARACTERS = 500


class BrowsedPlace(msgspec.Struct, frozen=True):
    """Where a page is: right after or before an offset, from one on, from a time on, or the end."""

    kind: Literal["after", "before", "at", "time", "end"]
    offset: str = ""
    time: float = 0.0


class RecordPage(msgspec.Struct):
    """Records in log order, as many as a page has room for."""

    records: Sequence[Record]
    ended: bool
    """Nothing follows in the direction it was read in."""


class Records:
    """Reads one log for people to look at."""

    def __init__(self, log: Transport, pool: Pool, *, timeout_seconds: float) -> None:
        self._log = log
        self._pool = pool
        self._timeout = timeout_seconds

    async def page(
        self, topic: Topic, partition: int, place: BrowsedPlace, *, limit: int, key: ApiKey | None
    ) -> LogRecords:
        """Return up to ``limit`` records at ``place``, in log order.

        Of a ``key`` with a prefix, those that are messages it may read.

        Raises:
            ValueError: the offset is none of this log's.
            TransportUnavailable: the log can't tell now.
        """
        asking = self._read(topic, partition, place, limit)
        try:
            page = await answer(asking, within=self._timeout)
        except TimeoutError as error:
            name, seconds = self._log.name, self._timeout
            raise TransportUnavailable(f"{name} gave no answer in {seconds:g} s") from error
        back = place.kind in {"before", "end"}
        records = page.records
        seen = await self._without_erased([_shown(self._log, record) for record in records])
        return LogRecords(
            log=self._log.name,
            topic="messages" if topic is Topic.MESSAGES else "dead_letters",
            partition=partition,
            items=[record for record in seen if key is None or _may_see(key, record)],
            first=records[0].offset if records else None,
            last=records[-1].offset if records else None,
            at_beginning=back and page.ended,
            at_end=place.kind == "end" or (not back and page.ended),
        )

    async def _without_erased(self, records: list[LogRecord]) -> list[LogRecord]:
        """Show nothing of erased messages, although the log has them until its retention.

        While PostgreSQL can't tell which they are, the log is shown as it is.
        """
        ids = [record.message_id for record in records if record.message_id]
        try:
            async with asyncio.timeout(self._timeout):
                gone = await erased(self._pool, ids)
        except (Outage, TimeoutError):
            return records
        return [_erased(record) if record.message_id in gone else record for record in records]

    async def _read(
        self, topic: Topic, partition: int, place: BrowsedPlace, limit: int
    ) -> RecordPage:
        log = self._log
        match place.kind:
            case "after":
                log.offset_before(place.offset)  # raises where it is none
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
    """Make a page of one reading of the log, which ends early where records are large."""
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
    """Return ``text`` with its bytes that are no UTF-8, kept as surrogates, written out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _cut(text: str) -> str:
    return text if len(text) <= _HEADER_CHARACTERS else f"{text[:_HEADER_CHARACTERS]}…"
