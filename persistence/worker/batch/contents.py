"""Content from the payload store, for records that have only its key.

Content is read before the statement, so a statement never waits for the store, and its length and
SHA-256 are checked. Content that the row will not hold is not read: only the object's length is
compared. Readers check its bytes later, so the partition does not wait for them.

An outage of the store is waited out like one of the database. A record whose content is missing or
damaged is tried a few times alone, and the others go on. The same holds for an object that can't be
read for another reason, again and again, while others can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from otel.metrics import Metrics
from otel.tracing.deliveries import Delivery
from persistence.database.outage import OutageBarrier, Stopping, stopped_within, unless_stopped
from persistence.errors import PersistenceError
from persistence.payloads.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadMissing,
    PayloadOutage,
)
from persistence.payloads.metrics import PayloadMetrics
from persistence.payloads.reading import fetch, measure
from persistence.payloads.store import PayloadStore
from persistence.store.batch import PositionedEvent
from transport.backoff import Backoff
from transport.contract import Reason
from transport.message.envelope import Message
from transport.message.payload import Payload

__all__ = ["ContentFailure", "Contents", "has_payload", "held_bytes"]

_AT_ONCE = 16
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_ALONE_SECONDS = 20.0
"""If an object fails this long while others can be read, that is one failed attempt."""

_Named = tuple[int, PositionedEvent, Payload]
"""The record's index in its batch, the record, and the payload that it names."""

Failed = Callable[[PositionedEvent, PersistenceError], None]
"""Called after each failed attempt to read a record's content."""


class ContentFailure(msgspec.Struct, frozen=True):
    """The reason why a record's content can't be read."""

    reason: Reason
    error: PersistenceError


def has_payload(positioned: PositionedEvent) -> bool:
    """Return whether the record's content is in the payload store."""
    event = positioned.event
    return isinstance(event, Message) and event.payload_key is not None


def held_bytes(positioned: PositionedEvent, row_bytes: int) -> int:
    """Return how many bytes of content the record will get from the payload store."""
    if not has_payload(positioned):
        return 0
    assert isinstance(positioned.event, Message)
    declared = positioned.event.payload_bytes
    return declared if isinstance(declared, int) and declared <= row_bytes else 0


class Contents:
    """Reads the content of records. One for each log of a process.

    Args:
        store: ``None`` if ``PAYLOAD_STORE`` is not set: records with a payload wait, as in an
            outage.
        metrics: those of this process.
        attempts: how often missing or damaged content is tried.
        longest: the longest time between two probes of a store that is out, in seconds.
        label: the store's name in the metrics while workers wait for it.
    """

    def __init__(
        self,
        store: PayloadStore | None,
        metrics: Metrics,
        *,
        attempts: int,
        longest: float,
        label: str | None = None,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._read_at = 0.0  # when content was read last, by the monotonic clock
        self._seconds = metrics.of(PayloadMetrics).fetch
        self.barrier = OutageBarrier(
            "payload store",
            self._probe,
            metrics,
            outages=PayloadOutage,
            backoff=Backoff(_FIRST_PAUSE, longest, calm=2 * longest + _LONGEST_PAUSE),
            label=label,
        )
        self.row_bytes = store.settings.payload_row_bytes if store else 0
        """Text of up to this many bytes becomes part of the row."""

    async def of(
        self, batch: Sequence[PositionedEvent], failed: Failed, trace: Delivery, stop: asyncio.Event
    ) -> list[PositionedEvent | ContentFailure]:
        """Return each record with its content, or the failure. ``trace`` is their delivery's."""
        ready = await self._several(batch, trace, stop)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(positioned: PositionedEvent) -> PositionedEvent | ContentFailure:
            async with slots:
                return await self._one(positioned, failed, trace, stop)

        tasks = {
            index: asyncio.create_task(one(positioned))
            for index, positioned in enumerate(batch)
            if has_payload(positioned) and index not in ready
        }
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return [
            tasks[index].result() if index in tasks else ready.get(index, positioned)
            for index, positioned in enumerate(batch)
        ]

    async def _several(
        self, batch: Sequence[PositionedEvent], trace: Delivery, stop: asyncio.Event
    ) -> dict[int, PositionedEvent]:
        """Look for all contents at once; return the records, by index, whose content was found."""
        if self._store is None:
            return {}
        held = list[_Named]()
        named = list[_Named]()
        for index, positioned in enumerate(batch):
            if payload := _payload(positioned):
                kind = held if payload.bytes <= self.row_bytes else named
                kind.append((index, positioned, payload))
        ready = dict[int, PositionedEvent]()
        for some, look in ((held, self._read_several), (named, self._measure_several)):
            if some:
                began = time.time_ns()
                found = await unless_stopped(stop, look(self._store, some))
                if found is None:
                    raise Stopping
                ready |= found
                for index, positioned, payload in some:
                    if index in found:
                        trace.fetched(positioned.offset, began, payload.bytes, None)
        if ready:
            self._read_at = time.monotonic()
        return ready

    async def _read_several(
        self, store: PayloadStore, named: Sequence[_Named]
    ) -> dict[int, PositionedEvent]:
        began = time.perf_counter()
        contents = await store.get_several([payload for _, _, payload in named])
        seconds = time.perf_counter() - began
        found = {}
        for (index, positioned, _), content in zip(named, contents, strict=True):
            if content is not None:
                found[index] = _with_content(positioned, _text(content))
                self._seconds.observe(seconds)
        return found

    async def _measure_several(
        self, store: PayloadStore, named: Sequence[_Named]
    ) -> dict[int, PositionedEvent]:
        there = await store.have_several([payload for _, _, payload in named])
        return {
            index: _with_content(positioned, "")
            for (index, positioned, _), is_there in zip(named, there, strict=True)
            if is_there
        }

    async def _one(
        self, positioned: PositionedEvent, failed: Failed, trace: Delivery, stop: asyncio.Event
    ) -> PositionedEvent | ContentFailure:
        payload = _payload(positioned)
        assert payload is not None
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        attempts = 0
        failing_since = time.monotonic()
        while True:
            try:
                with _traced(trace, positioned.offset, payload):
                    content = await self._read(payload)
            except PayloadOutage as outage:
                # A probe that succeeds is not enough: the store may answer, and give no content.
                if self._read_at > failing_since + _ALONE_SECONDS:
                    failing_since = time.monotonic()
                    attempts += 1
                    failed(positioned, outage)
                    if attempts >= self._attempts:
                        return ContentFailure(Reason.PAYLOAD_MISSING, outage)
                await self.barrier.hold(outage, stop)
            except (PayloadMissing, PayloadCorrupt) as error:
                attempts += 1
                failed(positioned, error)
                if attempts >= self._attempts:
                    missing = isinstance(error, PayloadMissing)
                    reason = Reason.PAYLOAD_MISSING if missing else Reason.PAYLOAD_CORRUPT
                    return ContentFailure(reason, error)
                if await stopped_within(stop, backoff.next()):
                    raise Stopping from error  # attempts are left, for the next owner
            else:
                return _with_content(positioned, content)

    async def _read(self, payload: Payload) -> str:
        """Return the verified text for the row; empty if the row will not hold it."""
        if self._store is None:
            raise _no_store()
        content = ""
        if payload.bytes <= self.row_bytes:
            began = time.perf_counter()
            data = await fetch(self._store, payload.key, payload.bytes, payload.sha256)
            self._seconds.observe(time.perf_counter() - began)
            content = _text(data)
        else:
            await measure(self._store, payload.key, payload.bytes)
        self._read_at = time.monotonic()
        return content

    async def _probe(self) -> None:
        if self._store is None:
            raise _no_store()
        await self._store.probe()
        if self._store.identity is not None:
            self._read_at = time.monotonic()  # its mark is an object too, and was read


def _payload(positioned: PositionedEvent) -> Payload | None:
    event = positioned.event
    return event.payload if isinstance(event, Message) else None


def _with_content(positioned: PositionedEvent, content: str) -> PositionedEvent:
    event = msgspec.structs.replace(positioned.event, content=content)
    return msgspec.structs.replace(positioned, event=event, size=positioned.size + len(content))


@contextmanager
def _traced(trace: Delivery, offset: str, payload: Payload) -> Iterator[None]:
    """Record the block as an attempt to read the content."""
    began, error = time.time_ns(), None
    try:
        yield
    except PayloadError as failure:
        error = failure
        raise
    finally:
        trace.fetched(offset, began, payload.bytes, error)


def _no_store() -> PayloadOutage:
    return PayloadOutage(
        "the log has messages whose content is in a payload store: set PAYLOAD_STORE, as the "
        "processes have it that accept messages"
    )


def _text(data: bytes | memoryview) -> str:
    """Return the bytes as text; empty if they are none that PostgreSQL can hold."""
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text
