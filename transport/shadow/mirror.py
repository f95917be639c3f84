"""The mirror: appends copies to the shadow, now (``Mirror.append``) or later (``offer``).

Copies for later wait in a ``Queue``. One task sends all waiting copies in one call, and sends
copies again, in order within each partition, until the shadow has them. Copies that will never be
sent are dropped (no room, refused for their own fault, process stopping): they are counted by kind,
and noted in the gap ledger.

Every call has a hard time limit and passes the breaker, so a shadow that refuses, hangs or answers
nothing costs a call now and then. No error of the shadow is raised here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal, Self

from transport.contract import Appended, Envelope, Outcome, Remembered, Transport
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.outage_watch import OutageWatch
from transport.settings import TransportSettings
from transport.shadow.breaker import Breaker
from transport.shadow.copies import Copy, mirrored
from transport.shadow.observer import GapLedger, NoGaps, NullObserver, ShadowObserver
from transport.shadow.origin import Origin
from transport.shadow.outcomes import Drop, Sent
from transport.shadow.queue import Queue
from transport.shadow.status import CopyCounts, ShadowStatus

__all__ = ["Mirror"]

log = logging.getLogger(__name__)

_AT_ONCE, _TRIAL = 500, 10
"""The most copies in a call, and in a trial call after an outage. A call with hundreds of copies
takes milliseconds from the process's requests, which a failed trial would waste each time."""
_GATHER = 0.05
"""Seconds between two calls of the sender, unless the last was full. A call costs the shadow's
server far more than a record in it, and no caller waits for a copy."""
_HOLD = 0.25
"""Seconds for which a partition is skipped after a copy to it failed."""


class Mirror:
    """Copies the messages of ``primary`` to ``transport``, which it neither opens nor closes.

    Use it as a context manager: at its end it goes on sending for ``TRANSPORT_SHADOW_FLUSH_MS``.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        primary: str,
        settings: TransportSettings,
        observer: ShadowObserver | None = None,
        gaps: GapLedger | None = None,
        outages: OutageWatch | None = None,
    ) -> None:
        self.transport = transport
        self.mode: Literal["async", "sync"] = settings.transport_shadow_mode
        self._primary = primary
        self._observer = observer or NullObserver()
        self._gaps = gaps or NoGaps()
        self._timeout = settings.transport_shadow_timeout_ms / 1000
        self._flush = settings.transport_shadow_flush_ms / 1000
        self._breaker = Breaker(self._observer.breaker)
        self._queue = Queue(
            transport.partitions,
            records=settings.transport_shadow_queue_records,
            size=settings.transport_shadow_queue_bytes,
        )
        self._counts = [CopyCounts(p) for p in range(transport.partitions)]
        self._held: dict[int, float] = {}
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sender: asyncio.Task[None] | None = None
        self._closed = False
        self._error = ""
        self._outages = outages or OutageWatch()
        self._since = time.time()

    async def __aenter__(self) -> Self:
        self._sender = asyncio.create_task(self._send_for_ever(), name="shadow sender")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Send the waiting copies within the time limit; drop the rest."""
        assert self._sender is not None
        await asyncio.sleep(0)  # let ``offer_soon`` deliver its copies
        self._closed = True
        try:
            if self._breaker.state == "closed":
                async with asyncio.timeout(self._flush):
                    await self._empty.wait()
        except TimeoutError:
            pass
        finally:
            self._sender.cancel()
            await asyncio.wait([self._sender])
            left = self._queue.all()
            for copy in left:
                self._drop(copy, Drop.CLOSED)
            if left:
                log.warning(
                    "Copies for the shadow dropped at exit; the gap ledger notes them",
                    extra={"records": len(left)},
                )

    def status(self) -> ShadowStatus:
        """Return the state of the shadow: waiting and dropped copies, the breaker."""
        backlog = self._queue.backlog()
        for counts in self._counts:
            counts.waiting = self._queue.count(counts.partition)
        return ShadowStatus(
            name=self.transport.name,
            mode=self.mode,
            breaker=self._breaker.state,
            waiting=backlog.records,
            waiting_bytes=backlog.size,
            oldest_age=time.monotonic() - backlog.oldest_since if backlog.records else 0.0,
            error=self._error,
            since=self._since,
            partitions=self._counts,
            unwritten=self._gaps.unwritten,
        )

    def waiting(self, envelope: Envelope) -> Copy | None:
        """Return the copy of this message, with this body, that waits to be sent; or ``None``."""
        return self._queue.waiting(envelope)

    def offer_soon(self, copies: Sequence[Copy]) -> None:
        """Call ``offer`` in the next turn of the event loop.

        By then the answers of this turn are written, so that no acknowledgement waits until copies
        are queued.
        """
        asyncio.get_running_loop().call_soon(self.offer, copies)

    def offer(self, copies: Sequence[Copy]) -> None:
        """Send ``copies`` soon, in this order within each partition. Returns at once."""
        now = time.monotonic()
        for copy in copies:
            copy.since = now
            if self._closed:
                self._drop(copy, Drop.CLOSED)
            elif not self._queue.put(copy):
                closed = self._breaker.state == "closed"
                self._drop(copy, Drop.QUEUE_FULL if closed else Drop.BREAKER_OPEN)
        self._tell()

    def missed(self, envelope: Envelope, home: int, drop: Drop, offset: str | None = None) -> None:
        """Count one message that the shadow will not get, and note it in the gap ledger.

        Counts are by the partition of the shadow (``home``). The ledger is by the partition and
        ``offset`` of the primary.
        """
        self._counts[home].drop(drop)
        self._observer.published(drop.label, 1)
        self._gaps.note(envelope.partition, drop, offset)

    async def append(self, copies: Sequence[Copy]) -> list[TransportError | None]:
        """Append ``copies`` now; return the error of each, ``None`` if the shadow has it.

        Copies that failed or are uncertain are offered for later. If the call is cancelled, all are
        offered.
        """
        left = copies
        try:
            errors = await self._call(copies)
            left = [c for c, error in zip(copies, errors, strict=True) if _may_be_retried(error)]
        finally:
            self._offer_again(left)
        for copy, error in zip(copies, errors, strict=True):
            if error is None and (waits := self.waiting(copy.envelope)) is not None:
                self._queue.remove(waits)
        self._tell()
        return errors

    def _offer_again(self, copies: Sequence[Copy]) -> None:
        """Offer copies that were never queued; queued ones belong to the sender."""
        self.offer(
            [copy for copy in copies if not copy.queued and self.waiting(copy.envelope) is None]
        )

    async def _send_for_ever(self) -> None:
        was_full = False
        while True:
            await self._work.wait()
            await asyncio.sleep(max(0.0 if was_full else _GATHER, self._breaker.wait()))
            if self._breaker.wait():
                continue
            most = _AT_ONCE if self._breaker.state == "closed" else _TRIAL
            copies = self._queue.take(most, skip=self._resting())
            was_full = len(copies) == _AT_ONCE
            if not copies:
                if not self._queue:
                    self._work.clear()
                continue
            await self._call(copies)

    def _resting(self) -> dict[int, float]:
        now = time.monotonic()
        self._held = {partition: until for partition, until in self._held.items() if until > now}
        return self._held

    async def _call(self, copies: Sequence[Copy]) -> list[TransportError | None]:
        """Append ``copies`` in one call, and remove appended ones from the queue."""
        if not copies:
            return []
        if not self._breaker.begin():
            error = TransportUnavailable(f"{self.transport.name} does not work: {self._error}")
            self._observer.published(Sent.FAILED, len(copies))
            return [error] * len(copies)
        try:
            outcomes = await self._publish(copies)
        except BaseException:
            self._breaker.failed()
            raise
        if any(_shows_life(outcome) for outcome in outcomes):
            self._breaker.succeeded()
        else:
            self._breaker.failed()
        counts: Counter[str] = Counter()
        errors = [
            self._ended(copy, outcome, counts)
            for copy, outcome in zip(copies, outcomes, strict=True)
        ]
        for label, records in counts.items():
            self._observer.published(label, records)
        self._note(errors)
        self._tell()
        return errors

    async def _publish(self, copies: Sequence[Copy]) -> Sequence[Outcome]:
        envelopes = [
            mirrored(
                copy.envelope,
                Origin(self._primary, copy.envelope.partition, copy.offset),
                self.mode,
                home=copy.home,
            )
            for copy in copies
        ]
        try:
            async with asyncio.timeout(self._timeout):
                outcomes = await self.transport.publish(envelopes, remember=copies[0].remember)
            if len(outcomes) == len(envelopes):
                return outcomes
            failure: TransportError = AppendUnknown(
                f"{self.transport.name} answered for {len(outcomes)} of {len(envelopes)} records"
            )
        except TimeoutError:
            failure = _TimedOut(f"{self.transport.name} did not answer within {self._timeout:g} s")
        except TransportError as error:
            failure = error
        except Exception as error:
            # A fault in the shadow's transport must not become the primary's.
            log.exception("Unhandled exception in the shadow's transport; will retry")
            failure = AppendUnknown(
                f"{type(error).__name__} in the transport {self.transport.name}"
            )
            failure.__cause__ = error
        return [failure] * len(copies)

    def _ended(self, copy: Copy, outcome: Outcome, counts: Counter[str]) -> TransportError | None:
        """Count how ``copy`` ended; take it out of the queue, or leave it for the next call."""
        if isinstance(outcome, (Appended, Remembered)):
            counts[_sent(copy, outcome)] += 1
            self._counts[copy.home].copied += 1
            self._queue.remove(copy)
            return None
        counts[_failed(outcome)] += 1
        if _may_be_retried(outcome):
            self._held[copy.home] = time.monotonic() + _HOLD
        else:
            self._drop(copy, Drop.REFUSED)
        return outcome

    def _drop(self, copy: Copy, drop: Drop) -> None:
        if copy.done:
            return  # appended by another call meanwhile
        self._queue.remove(copy)
        self.missed(copy.envelope, copy.home, drop, copy.offset)

    def _note(self, errors: Sequence[TransportError | None]) -> None:
        """Log the beginning and the end of an outage, not every failed call."""
        failure = next((error for error in errors if error is not None), None)
        text = str(failure) if failure is not None else ""
        self._error = text
        if failure is not None:
            if self._outages.failed(sum(error is not None for error in errors)):
                log.warning("Copy to the shadow failed; will retry", extra={"error": text})
        elif past := self._outages.succeeded():
            fields = {"seconds": past.seconds, "failures": past.failures}
            log.info("The shadow takes copies again", extra=fields)

    def _tell(self) -> None:
        backlog = self._queue.backlog()
        self._observer.waiting(backlog)
        if backlog.records:
            self._work.set()
            self._empty.clear()
        else:
            self._empty.set()


class _TimedOut(AppendUnknown):
    """The shadow did not answer within our own time limit."""


def _sent(copy: Copy, outcome: Appended | Remembered) -> Sent:
    if isinstance(outcome, Appended):
        return Sent.APPENDED
    ours = copy.envelope.fingerprint
    if ours and outcome.fingerprint and ours != outcome.fingerprint:
        return Sent.CONFLICT
    return Sent.REMEMBERED


def _failed(error: TransportError) -> Sent:
    if isinstance(error, _TimedOut):
        return Sent.TIMED_OUT
    return Sent.UNKNOWN if isinstance(error, AppendUnknown) else Sent.FAILED


def _may_be_retried(error: TransportError | None) -> bool:
    return isinstance(error, (TransportUnavailable, AppendUnknown))


def _shows_life(outcome: Outcome) -> bool:
    """Return whether the shadow answered, even if it refused one record for its own fault."""
    return not (isinstance(outcome, TransportError) and _may_be_retried(outcome))
