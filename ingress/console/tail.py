"""Messages as they are appended, followed live: one reader in a process, however many follow.

It reads the log that workers read, from its end on and without a group, while a client follows. It
is bounded in every way: what comes faster than it reads, or than a follower takes, is passed over
and counted; of a content the beginning is given.
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
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads.content_text import content_text
from persistence.reads.outcomes import fates
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.deadline import answer
from transport.errors import DecodeError, TransportError
from transport.message.envelope import Message, decode

__all__ = ["MOST_FOLLOWERS", "MOST_HELD", "Tail", "TailFilter", "TailNews"]

MOST_FOLLOWERS = 20
"""Followers at once on one process."""
_RECORDS = 200
"""Records of one partition that are read at a time; later ones are passed over."""
_AT_ONCE = 4
MOST_HELD = 500
"""Lines that wait for a slow follower."""
_FOLLOWED = 2_000
"""Messages of one follower whose fate is looked up until it is known."""
_CONTENT = 300
"""Characters of a content that are given."""
_LONGEST_PAUSE = 5.0
"""Seconds between two pieces of news at most: a key is checked before each."""
_log = structlog.get_logger(__name__)


class TailLine(msgspec.Struct, frozen=True, rename="camel"):
    """A record that was appended. One that is no message has no ids, and a reason."""

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


class TailFate(msgspec.Struct, frozen=True, rename="camel"):
    """The outcome of a message that was shown before."""

    message_id: str
    state: str
    at: str


class TailNews(msgspec.Struct, frozen=True, rename="camel"):
    """New lines and fates. ``skipped`` counts records that were passed over, of any kind.

    ``error`` says why the log can't be read now.
    """

    log: str
    lines: list[TailLine]
    fates: list[TailFate]
    skipped: int
    error: str | None


class TailFilter(msgspec.Struct, frozen=True):
    """Filters of a tail; each one that is set narrows it."""

    conversation: str | None = None
    sender: str | None = None
    text: str | None = None
    """Part of the content; upper and lower case are alike."""
    key: ApiKey | None = None

    def takes(self, message: Message | None) -> bool:
        """Return whether a record is wanted; one that is no message, only where all are."""
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
    """The last record of a partition that was read, or passed over."""

    end: str | None
    """The last offset."""
    count: int
    """How many records were ever appended up to there."""


class _Follower:
    """The lines and fates that wait for one client."""

    def __init__(self, wanted: TailFilter) -> None:
        self.wanted = wanted
        self.lines: deque[TailLine] = deque()
        self.fates: deque[TailFate] = deque(maxlen=_FOLLOWED)
        self.undecided: dict[str, None] = {}
        """Messages shown whose fate is not known yet, oldest first."""
        self.skipped = 0
        self.news = asyncio.Event()

    def offer(self, read: Iterable[tuple[TailLine, Message | None]], skipped: int) -> None:
        """Queue the wanted ones of the lines that were read."""
        if self.wanted.key and self.wanted.key.limited:
            skipped = 0  # they may all be others'
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

    def settle(self, fates: Iterable[TailFate]) -> None:
        """Queue the fates of messages that this client was shown."""
        for fate in fates:
            if fate.message_id in self.undecided:
                del self.undecided[fate.message_id]
                self.fates.append(fate)
                self.news.set()

    def take(self, log: str, error: str | None) -> TailNews:
        """Return all that waits."""
        self.news.clear()
        news = TailNews(log, list(self.lines), list(self.fates), self.skipped, error)
        self.lines.clear()
        self.fates.clear()
        self.skipped = 0
        return news


class Tail:
    """Reads while a client follows. ``close`` ends every ``follow``.

    Args:
        log: The log that workers read.
        pool: Says which messages were persisted.
        timeout_seconds: The longest wait for an answer of either.
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
        """Whether the limit of followers is reached."""
        return len(self._followers) >= MOST_FOLLOWERS

    @property
    def is_running(self) -> bool:
        """Whether it reads the log: while somebody follows, and for a moment after."""
        return self._task is not None and not self._task.done()

    async def follow(self, wanted: TailFilter) -> AsyncIterator[TailNews]:
        """Yield records appended from now on: at once none, then at least every five seconds."""
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
        """Let every follower come to an end, so that the server can stop."""
        self._closed = True
        for follower in self._followers:
            follower.news.set()

    async def close(self) -> None:
        """End the reading and every follower."""
        self.end()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._followers and not self._closed:
            began = time.monotonic()
            try:
                await self._look()
                await self._settle()
            except Exception:  # noqa: BLE001 - followers are told; the next may succeed
                self._error = "the reading failed; the service's log says how"
                _log.exception("Console tail failed: the log was not read; will retry")
            await asyncio.sleep(max(0.05, self._interval - (time.monotonic() - began)))

    async def _look(self) -> None:
        """Read the records appended since the last time, and offer them."""
        try:
            read, skipped = await answer(self._read(), within=self._timeout)
        except (TransportError, TimeoutError) as error:
            self._error = " ".join(str(error).split()) or f"no answer in {self._timeout:g} s"
            return
        self._error = None
        lines = [_line(self._log.name, record) for record in read]
        for follower in self._followers:
            follower.offer(lines, skipped)

    async def _read(self) -> tuple[list[Record], int]:
        """Return new records by the time of their append, and how many were passed over."""
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
            return read, self._passed_over(position, progress, page_of(read, _RECORDS))

        parts = await asyncio.gather(*(partition(progress) for progress in now))
        records = [record for part, _ in parts for record in part]
        return sorted(records, key=lambda r: r.appended_at), sum(count for _, count in parts)

    def _passed_over(self, position: _ReadPosition, now: Progress, page: RecordPage) -> int:
        """Go on behind what was read, or at the end where that is too far away.

        Returns how many records that passes over.
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
        """Look up the fates of the messages that were shown."""
        wanted = {message_id for follower in self._followers for message_id in follower.undecided}
        if not wanted:
            return
        try:
            async with asyncio.timeout(self._timeout):
                found = await fates(self._pool, sorted(wanted)[:_FOLLOWED])
        except (Outage, TimeoutError):
            return  # told when it is back
        outcomes = [
            TailFate(fate.message_id, "dead_lettered" if fate.reason else "persisted", fate.at)
            for fate in found
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
    """Return an id that a row can have; another producer's may be any text."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
