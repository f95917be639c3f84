"""Finds the keys that other processes accepted, among the unread records of the log.

A log that remembers no keys (Kafka) answers no repeat, and a process knows only the messages that
it accepted itself since its start. Usually that is enough, as a row comes some milliseconds after
its message. While rows are late, each process reads the unread records, and adds them to its memory
of recent keys. Rows that come in time cost no read.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

import structlog

from ingress.accept.recent_keys import RecentKeys
from otel.rounds import completed
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import DecodeError, TransportError
from transport.message.envelope import HEADER_MESSAGE_ID, Message, decode

__all__ = ["UnreadKeys"]

_EVERY = 2.0
_LATE = 3.0
"""Seconds that the oldest unread record of a partition has to wait before the partition is read."""
_ROUND = 4_000  # records of all partitions in a round: some 4 % of a core
_TEXT_MOST = 512  # characters; a record that another producer wrote may have megabytes
_SLICE = 100  # records that are decoded before other tasks run
_log = structlog.get_logger(__name__)


class _ReadTo(NamedTuple):
    """The last record of a partition that was read, and how many were appended up to it."""

    offset: str
    appended: int


class UnreadKeys:
    """Adds the unread records of late partitions to the memory of recent keys.

    Args:
        transport: The log that workers read.
        recent: The memory to add to.
        limit: The number of unread records of a partition to begin with: the last ones.
    """

    def __init__(self, transport: Transport, recent: RecentKeys, *, limit: int) -> None:
        self._transport = transport
        self._recent = recent
        self._limit = limit
        self._read_to: dict[int, _ReadTo] = {}  # by late partition
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop reading."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await completed(
                self._read_if_possible(),
                _log,
                "Unread keys could not be read: unhandled exception; will retry",
            )
            await asyncio.sleep(_EVERY)

    async def _read_if_possible(self) -> None:
        with suppress(TransportError):  # an append fails as well then, and reports it
            await self._read_late_partitions()

    async def _read_late_partitions(self) -> None:
        progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        late = [part for part in progress if part.lag and (part.oldest_age or 0.0) >= _LATE]
        self._read_to = {
            part.partition: self._read_to[part.partition]
            for part in late
            if part.partition in self._read_to
        }
        for part in late:
            await self._read(part, most=_ROUND // len(late))

    async def _read(self, part: Progress, *, most: int) -> None:
        """Read what came into a partition since the last round, or the last ``most`` of it."""
        log, partition, appended = self._transport, part.partition, part.appended or 0
        seen = self._read_to.pop(partition, None)
        if seen is None or appended < seen.appended:
            limit = min(part.lag or 0, self._limit)
            records = await log.read_back(Topic.MESSAGES, partition, limit=limit)
        elif appended - seen.appended > most:
            records = await log.read_back(Topic.MESSAGES, partition, limit=most)
        else:
            records = await log.read(Topic.MESSAGES, partition, after=seen.offset, limit=most)
            appended = seen.appended + len(records)
        if records:
            self._read_to[partition] = _ReadTo(records[-1].offset, appended)
        elif seen is not None:
            self._read_to[partition] = seen
        for index, record in enumerate(records):
            self._add(record)
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)

    def _add(self, record: Record) -> None:
        named = record.headers.get(HEADER_MESSAGE_ID, b"").decode("ascii", "replace")
        if self._recent.find(named) is not None:
            return
        try:
            event = decode(record)
        except DecodeError:
            return
        if (
            isinstance(event, Message)
            and self._recent.find(event.message_id) is None
            and len(event.accepted_at) + len(event.correlation_id) <= _TEXT_MOST
        ):
            self._recent.add(
                event.message_id, event.fingerprint(), event.accepted_at, event.correlation_id
            )
