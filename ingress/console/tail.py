"""The live tail: messages as they are appended. A process has one reader for all clients.

While a client follows, it reads the log that workers read, from the log's end on and without a
consumer group. All work is bounded: records that come faster than it reads, or than a client takes
them, are skipped and counted, and only the beginning of a content is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec
import structlog

from ingress.console.records import RecordPage, page_of
from ingress.web.key_entries import ApiKey
from otel.rounds import completed
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads.content_text import content_text
from persistence.reads.outcomes import message_outcomes
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.deadline import answer
from transport.errors import DecodeError, TransportError, one_line
from transport.message.envelope import Message, decode

__all__ = ["MOST_FOLLOWERS", "MOST_HELD", "Tail", "TailFilter", "TailNews"]

MOST_FOLLOWERS = 20
"""The most clients that follow one process."""
_RECORDS = 200
"""The most records of a partition in one read; further ones are skipped."""
_AT_ONCE = 4
MOST_HELD = 500
"""The most lines that wait for a slow client."""
_FOLLOWED = 2_000
"""The most messages of one client whose outcome is looked up."""
_CONTENT = 300
"""The most characters of a content in a line."""
_LONGEST_PAUSE = 5.0
"""The most seconds between two events: the client's key is checked before each event."""
_log = structlog.get_logger(__name__)


class TailLine(msgspec.Struct, frozen=True, rename="camel"):
    """An appended record. If it is not a message, it has no ids, and ``error`` says what it is."""

    at: str
    place: str
    transport: str
    partition: int
    offset: str
    message_id: str | None
    conversation_id: str | None
    sender_id: str | None
    client_message_id: str | None
    content: str | None
    error: str | None = None


class TailOutcome(msgspec.Struct, frozen=True, rename="camel"):
    """The outcome of a message that an earlier line showed."""

    message_id: str
    state: str
    at: str


class TailNews(msgspec.Struct, frozen=True, rename="camel"):
    """New lines and outcomes. ``skipped`` counts skipped records of any kind.

    ``error`` says why the log can't be read now, if it can't.
    """

    log: str
    lines: list[TailLine]
    fates: list[TailOutcome]
    skipped: int
    error: str | None


class TailFilter(msgspec.Struct, frozen=True):
    """The filters of a tail. A message has to match all that are set."""

    conversation: str | None = None
    sender: str | None = None
    text: str | None = None
    """A part of the content, in upper or lower case."""
    key: ApiKey | None = None

    def takes(self, message: Message | None) -> bool:
        """Return whether a record matches. ``None`` (no message) matches only without filters."""
        if message is None:
            narrowed = (self.conversation, self.sender, self.text) != (None, None, None)
            return not narrowed and not (self.key and self.key.limited)
        return (
            self.conversation in {None, message.conversation_id}
            and self.sender in {None, message.sender_id}
            and (self.text is None or self.text.casefold() in message.content.casefold())
            and (self.key is None or self.key.sees(message.sender_id, message.conversation_id))
        )


class _ReadPosition(msgspec.Struct):
    """The position in one partition: the last record that was read or skipped."""

    end: str | None
    """The offset of that record."""
    count: int
    """The number of records ever appended up to that record."""


class _Follower:
    """The lines and outcomes that wait for one client."""

    def __init__(self, wanted: TailFilter) -> None:
        self.wanted = wanted
        self.lines: deque[TailLine] = deque()
        self.outcomes: deque[TailOutcome] = deque(maxlen=_FOLLOWED)
        self.undecided: dict[str, None] = {}
        """The shown messages whose outcome is not known yet, oldest first."""
        self.skipped = 0
        self.news = asyncio.Event()

    def offer(self, read: Iterable[tuple[TailLine, Message | None]], skipped: int) -> None:
        """Queue the lines that match the client's filter."""
        if self.wanted.key and self.wanted.key.limited:
            skipped = 0  # the skipped records may all be ones that this key may not read
        self.skipped += skipped
        for line, message in read:
            if not self.wanted.takes(message):
                continue
            if len(self.lines) == MOST_HELD:
                self.skipped += 1
                continue
            self.lines.append(line)
            if line.message_id is not None:
                self.undecided[line.message_id] = None
        while len(self.undecided) > _FOLLOWED:
            del self.undecided[next(iter(self.undecided))]
        if self.lines or skipped:
            self.news.set()

    def settle(self, outcomes: Iterable[TailOutcome]) -> None:
        """Queue the outcomes of messages that this client was shown."""
        for outcome in outcomes:
            if outcome.message_id in self.undecided:
                del self.undecided[outcome.message_id]
                self.outcomes.append(outcome)
                self.news.set()

    def take(self, log: str, error: str | None) -> TailNews:
        """Return the waiting lines and outcomes, and clear them."""
        self.news.clear()
        news = TailNews(log, list(self.lines), list(self.outcomes), self.skipped, error)
        self.lines.clear()
        self.outcomes.clear()
        self.skipped = 0
        return news


class Tail:
    """Reads the log while a client follows. ``close`` ends every ``follow``.

    Args:
        log: The log that workers read.
        pool: Connections to PostgreSQL, for the outcomes of messages.
        timeout_seconds: The longest wait for the log or for PostgreSQL.
        interval: Seconds between reads.
    """

    def __init__(
        self, log: Transport, pool: Pool, *, timeout_seconds: float, interval: float = 0.5
    ) -> None:
        self._log = log
        self._pool = pool
        self._timeout = timeout_seconds
        self._interval = interval
        self._followers: set[_Follower] = set()
        self._positions: dict[int, _ReadPosition] = {}
        self._error: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether the limit of clients is reached."""
        return len(self._followers) >= MOST_FOLLOWERS

    @property
    def is_running(self) -> bool:
        """Whether the log is read: while a client follows, and for a moment after."""
        return self._task is not None and not self._task.done()

    async def follow(self, wanted: TailFilter) -> AsyncIterator[TailNews]:
        """Yield news of records that are appended from now on.

        The first item has no records. Further ones come at least every five seconds.
        """
        follower = _Follower(wanted)
        self._followers.add(follower)
        try:
            if not self.is_running:
                self._positions = {}
                await self._look()
                if not self.is_running:
                    self._task = asyncio.create_task(self._run())
            while not self._closed:
                yield follower.take(self._log.name, self._error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_PAUSE):
                        await follower.news.wait()
        finally:
            self._followers.discard(follower)

    def end(self) -> None:
        """End every ``follow`` soon, so that the server can stop."""
        self._closed = True
        for follower in self._followers:
            follower.news.set()

    async def close(self) -> None:
        """Stop reading, and end every ``follow``."""
        self.end()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._followers and not self._closed:
            began = time.monotonic()
            if not await completed(
                self._read_on(), _log, "Console tail failed: the log was not read; will retry"
            ):
                self._error = "the reading failed; the service's log says how"
            await asyncio.sleep(max(0.05, self._interval - (time.monotonic() - began)))

    async def _read_on(self) -> None:
        await self._look()
        await self._settle()

    async def _look(self) -> None:
        """Read the records appended since the last read, and offer them to the clients."""
        try:
            read, skipped = await answer(self._read(), within=self._timeout)
        except (TransportError, TimeoutError) as error:
            self._error = one_line(error, empty=f"no answer in {self._timeout:g} s")
            return
        self._error = None
        lines = [_line(self._log.name, record) for record in read]
        for follower in self._followers:
            follower.offer(lines, skipped)

    async def _read(self) -> tuple[list[Record], int]:
        """Return new records in the order of their append time, and the number of skipped ones."""
        now = await self._log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        for progress in now:
            if not progress.unavailable:
                start = _ReadPosition(progress.end, progress.appended or 0)
                self._positions.setdefault(progress.partition, start)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def partition(progress: Progress) -> tuple[Sequence[Record], int]:
            if progress.unavailable:
                return [], 0
            position = self._positions[progress.partition]
            if progress.end is None or progress.end == position.end:
                return [], 0
            async with at_once:
                read = await self._log.read(
                    Topic.MESSAGES, progress.partition, after=position.end, limit=_RECORDS
                )
            return read, self._advance(position, progress, page_of(read, _RECORDS))

        parts = await asyncio.gather(*(partition(progress) for progress in now))
        records = [record for part, _ in parts for record in part]
        return sorted(records, key=lambda r: r.appended_at), sum(count for _, count in parts)

    def _advance(self, position: _ReadPosition, now: Progress, page: RecordPage) -> int:
        """Advance a partition's position: to the last read record, or to the log's end.

        It jumps to the end if further records follow the read ones.

        Returns:
            The number of records that the jump skips.
        """
        position.count += len(page.records)
        if page.records:
            position.end = page.records[-1].offset
        end = now.end
        if (
            page.ended
            or end is None
            or self._log.sort_key(position.end or end) >= self._log.sort_key(end)
        ):
            return 0
        position.end = end
        passed = max(0, (now.appended or 0) - position.count)
        position.count += passed
        return passed

    async def _settle(self) -> None:
        """Look up the outcomes of the messages that were shown."""
        wanted = {message_id for follower in self._followers for message_id in follower.undecided}
        if not wanted:
            return
        try:
            async with asyncio.timeout(self._timeout):
                found = await message_outcomes(self._pool, sorted(wanted)[:_FOLLOWED])
        except (Outage, TimeoutError):
            return  # the next look-up finds them when PostgreSQL is back
        outcomes = [
            TailOutcome(
                outcome.message_id, "dead_lettered" if outcome.reason else "persisted", outcome.at
            )
            for outcome in found
        ]
        for follower in self._followers:
            follower.settle(outcomes)


def _line(log: str, record: Record) -> tuple[TailLine, Message | None]:
    where = f"{log} {record.partition}:{record.offset}"
    at = timestamp(record.appended_at)
    place = (at, where, log, record.partition, record.offset)
    try:
        event = decode(record)
    except DecodeError as error:
        return TailLine(*place, None, None, None, None, None, str(error)[:_CONTENT]), None
    if not isinstance(event, Message):
        what = f"receipt: {event.state}"
        return TailLine(*place, None, None, None, None, what), None
    content = content_text(event)
    shown = content if len(content) <= _CONTENT else f"{content[:_CONTENT]}…"
    return TailLine(
        *place, _uuid(event.message_id), event.conversation_id, event.sender_id,
        event.client_message_id, shown,
    ), event  # fmt: skip


def _uuid(text: str) -> str | None:
    """Return ``text`` if it is a UUID. Another producer's id may be any text, and has no row."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
