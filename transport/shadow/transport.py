"""A transport made of two: the primary, and a shadow that gets a copy of every append.

Everything but appending is the primary's business: a dead letter belongs to the log that its record
was read from, and whether the shadow works is asked of the mirror. A copy has the primary's body,
key and headers, and some headers more (``transport.message.envelope``). It stands in the
conversation's home in the shadow (``transport.shadow.homes``), which need not have as many
partitions.

**async.** ``publish`` is the primary's, outcome and time; after it the copies are put in a queue.

**sync.** ``publish`` returns when both logs have the message, or with an error: the caller retries
with the same key, and the retry repairs both. What the primary remembers goes to the shadow again,
with the bytes of the first. A copy that failed is also repaired in the background.

Why the shadow is in order
--------------------------
Promise 3 is about pairs: *a* was acknowledged before *b* of its conversation was sent. The place of
a message in a log is where it stands first; what comes again is a duplicate, and changes no row.

*sync*: in both logs *a* stands before *b*, whichever processes took them. *a* was acknowledged, so
an append of it to each log had been confirmed; *b* had not been sent, so no append of it, to either
log, had begun. Nothing else is needed: no lock, and no order between requests that overlap. In
particular the background repair can't break it. What waits there is not acknowledged by that
attempt. If a later attempt is, that one appended the message itself before it was (a remembered
repeat is appended again for this reason), and the copy that waits becomes a duplicate at worst; if
none is, the pair is none of ours. One acknowledgement comes without an append: the ingress finds
the message's *row*. Then *a* is settled before *b* is sent, and its place in the logs no longer
matters.

*async*: the same holds for the copies that one process makes. They come into its queue in the order
in which the primary's appends ended, *a*'s before *b*'s, and a queue keeps its order. It does not
hold between processes, and not for what the shadow refuses alone, loses, or appends later than we
waited. So workers may not take the order of rows from a log while async copies of it still wait;
the gate between the phases checks that.

What is not promised
--------------------
A process that is killed takes its queue along, and no ledger knows: parity finds those messages.
In sync mode they were not acknowledged.
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
    """``primary``, with every append copied by ``mirror`` in the mode that the mirror has."""

    def __init__(self, primary: Transport, mirror: Mirror) -> None:
        super().__init__(primary)
        self.mirror = mirror

    async def __aenter__(self) -> Self:
        """Enter both logs and the mirror: for a use without the wiring, which does it apart."""
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
        # What the primary may have, and the shadow is not given.
        self._note_unknown(
            [
                envelope
                for envelope, outcome in zip(envelopes, outcomes, strict=True)
                if isinstance(outcome, AppendUnknown)
            ]
        )
        if self.mirror.mode == "sync":
            return await self._mirror_now(envelopes, outcomes, remember)
        copies = [
            Copy(envelope, outcome.offset, self._home(envelope), remember)
            for envelope, outcome in zip(envelopes, outcomes, strict=True)
            if isinstance(outcome, Appended)
        ]
        if copies:
            self.mirror.offer_soon(copies)
        return outcomes

    async def _mirror_now(
        self, envelopes: Sequence[Envelope], of_primary: Sequence[Outcome], remember: bool
    ) -> Sequence[Outcome]:
        """Append to the shadow what the primary has; return the outcome of both."""
        outcomes = list(of_primary)
        places: dict[int, Copy] = {}
        made: dict[str, Copy] = {}
        for place, (envelope, outcome) in enumerate(zip(envelopes, outcomes, strict=True)):
            try:
                copy = await self._copy(envelope, outcome, remember)
            except TransportError as unread:
                outcomes[place] = self._half_done(unread)
                continue
            if copy is not None:
                # A repeat within this call shares the copy of the first.
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
            TransportError: the primary can't tell the bytes of the first one now.
        """
        if isinstance(outcome, TransportError):
            return None
        repeated = outcome if isinstance(outcome, Remembered) else None
        if repeated and repeated.fingerprint not in {"", envelope.fingerprint}:
            return None  # another body under the same key: refused, here as there
        if remember and (waits := self.mirror.waiting(envelope)) is not None:
            return waits  # the first one's bytes and position
        if repeated:
            envelope = await self._first(envelope, repeated)
        return Copy(envelope, outcome.offset, self._home(envelope), remember)

    async def _first(self, repeat: Envelope, outcome: Remembered) -> Envelope:
        """Return the message with the very bytes of the first one.

        The log may have them no more; then the codec writes them again. It can't know that the
        first one was of another version: its content went to the payload store, or did not.
        """
        again = reseal(repeat, outcome)
        first = await record_at(self.inner, Topic.MESSAGES, repeat.partition, outcome.offset)
        if first is None or first.body == again.body:
            return again
        kind = first.headers.get(HEADER_CONTENT_TYPE, CONTENT_TYPE.encode())
        headers = {**again.headers, HEADER_CONTENT_TYPE: kind.decode()}
        return msgspec.structs.replace(again, body=first.body, headers=headers)

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
