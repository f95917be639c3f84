"""A decorator of the primary that sends a copy of every append to the shadow.

All other calls go to the primary: a dead letter belongs to the log of its record, and the mirror
tells whether the shadow works. A copy has the body, key and headers of the original, and some more
headers (``transport.message.envelope``). It is in the conversation's home in the shadow
(``transport.shadow.homes``), which may have another number of partitions.

**async.** ``publish`` returns the primary's outcomes in the primary's time; then the copies are
queued.

**sync.** ``publish`` returns when both logs have the message, or returns an error. The caller then
retries with the same key, and the retry repairs both logs: a message that the primary remembers is
sent to the shadow again, with the bytes of the first. A failed copy is also repaired in the
background.

Why the shadow is in order
--------------------------
Promise 3 is about pairs of messages of one conversation: *a* was acknowledged before *b* was sent.
The position of a message in a log is that of its first record. Later records of it are duplicates,
and change no row.

*sync*: in both logs *a* comes before *b*, whichever processes took them. *a* was acknowledged, so
both logs had confirmed an append of it. *b* had not been sent, so no append of it had begun. No
lock is needed, and no order between concurrent requests. The background repair can't break this:
the attempt that left a copy waiting did not acknowledge the message. If a later attempt did, it
appended the message to the shadow itself (this is why a remembered repeat is appended again), and
the waiting copy is a duplicate at worst. If no attempt did, promise 3 does not apply. One kind of
acknowledgement comes without an append: the ingress finds the message's *row*. Then *a* is stored
before *b* is sent, and its position in the logs no longer matters.

*async*: the same holds for the copies of one process. They enter its queue in the order in which
the primary's appends ended, *a* before *b*, and the queue keeps that order. It does not hold
between processes, nor for copies that the shadow refuses, loses, or appends after our time limit.
So workers must not begin to consume the shadow while async copies still wait; the gate between the
phases checks that.

What is not promised
--------------------
A process that is killed loses its queue, and no ledger notes that: parity finds those messages. In
sync mode they were not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

import msgspec

from transport.contract import Appended, Envelope, Outcome, Remembered, Topic, Transport
from transport.errors import AppendUnknown, TransportError
from transport.features.forwarding import Forwarding
from transport.lookup import record_at
from transport.message.envelope import CONTENT_TYPE, HEADER_CONTENT_TYPE, reseal
from transport.shadow.copies import Copy
from transport.shadow.homes import home_of
from transport.shadow.mirror import Mirror
from transport.shadow.outcomes import Drop

__all__ = ["ShadowTransport"]


class ShadowTransport(Forwarding):
    """Appends to ``primary``, and has ``mirror`` copy every append in the mirror's mode."""

    def __init__(self, primary: Transport, mirror: Mirror) -> None:
        super().__init__(primary)
        self.mirror = mirror

    async def __aenter__(self) -> Self:
        """Enter both logs and the mirror; the service's wiring enters each of them itself."""
        await self.inner.__aenter__()
        try:
            await self.mirror.transport.__aenter__()
            await self.mirror.__aenter__()
        except BaseException:
            await self.inner.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self.mirror.__aexit__(*exc)
            await self.mirror.transport.__aexit__(*exc)
        finally:
            await self.inner.__aexit__(*exc)

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append to the primary, and copy; see the contract and the module."""
        try:
            outcomes = await self.inner.publish(envelopes, remember=remember)
        except asyncio.CancelledError:
            self._note_unknown(envelopes)
            raise
        # The primary may have these messages, but the shadow does not get them.
        self._note_unknown(
            [
                envelope
                for envelope, outcome in zip(envelopes, outcomes, strict=True)
                if isinstance(outcome, AppendUnknown)
            ]
        )
        if self.mirror.mode == "sync":
            return await self._mirror_now(envelopes, outcomes, remember)
        if copies := self._appended(envelopes, outcomes, remember):
            self.mirror.offer_soon(copies)
        return outcomes

    async def _mirror_now(
        self, envelopes: Sequence[Envelope], of_primary: Sequence[Outcome], remember: bool
    ) -> Sequence[Outcome]:
        """Append to the shadow the messages that the primary has; return the joint outcomes."""
        outcomes = list(of_primary)
        places: dict[int, Copy] = {}
        made: dict[str, Copy] = {}
        for place, (envelope, outcome) in enumerate(zip(envelopes, outcomes, strict=True)):
            try:
                copy = await self._copy(envelope, outcome, remember)
            except TransportError as unread:
                outcomes[place] = self._half_done(unread)
                continue
            except asyncio.CancelledError:
                # Nobody else copies what this call appended. A repeat was left to its first.
                self.mirror.offer(self._appended(envelopes, of_primary, remember))
                raise
            if copy is not None:
                # A repeat within this call shares the copy of its first.
                key = envelope.message_id + envelope.fingerprint if remember else str(place)
                places[place] = made.setdefault(key, copy)
        copies = list(made.values())
        errors = await self.mirror.append(copies)
        failed = {
            id(copy): error for copy, error in zip(copies, errors, strict=True) if error is not None
        }
        for place, copy in places.items():
            if (error := failed.get(id(copy))) is not None:
                outcomes[place] = self._half_done(error)
        return outcomes

    async def _copy(self, envelope: Envelope, outcome: Outcome, remember: bool) -> Copy | None:
        """Return the copy that the shadow must have before this outcome; ``None`` if none.

        Raises:
            TransportError: the primary can't return the bytes of the first append now.
        """
        if isinstance(outcome, TransportError):
            return None
        repeated = outcome if isinstance(outcome, Remembered) else None
        if repeated and repeated.fingerprint not in {"", envelope.fingerprint}:
            return None  # another body under the same key: the caller refuses it
        if remember and (waits := self.mirror.waiting(envelope)) is not None:
            return waits  # the first one's bytes and position
        if repeated:
            envelope = await self._first(envelope, repeated)
        return Copy(envelope, outcome.offset, self._home(envelope), remember)

    async def _first(self, repeat: Envelope, outcome: Remembered) -> Envelope:
        """Return the message with exactly the bytes of the first append.

        If the log no longer has them, the codec writes them again. The codec can't know whether the
        first was of another version, with its content in the payload store or not.
        """
        again = reseal(repeat, outcome)
        first = await record_at(self.inner, Topic.MESSAGES, repeat.partition, outcome.offset)
        if first is None or first.body == again.body:
            return again
        kind = first.headers.get(HEADER_CONTENT_TYPE, CONTENT_TYPE.encode())
        headers = {**again.headers, HEADER_CONTENT_TYPE: kind.decode()}
        return msgspec.structs.replace(again, body=first.body, headers=headers)

    def _appended(
        self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome], remember: bool
    ) -> list[Copy]:
        return [
            Copy(envelope, outcome.offset, self._home(envelope), remember)
            for envelope, outcome in zip(envelopes, outcomes, strict=True)
            if isinstance(outcome, Appended)
        ]

    def _home(self, envelope: Envelope) -> int:
        return home_of(envelope, self.partitions, self.mirror.transport.partitions)

    def _half_done(self, error: TransportError) -> AppendUnknown:
        unknown = AppendUnknown(
            f"{self.name} has the message, and {self.mirror.transport.name} may not: {error}"
        )
        unknown.__cause__ = error
        return unknown

    def _note_unknown(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.mirror.missed(envelope, self._home(envelope), Drop.PRIMARY_UNKNOWN)
