"""The appends of this process, offered to the claims of this process.

The answer to an append says, for each stream, which record is right before the first new one. If
that is the last record that the claim has delivered, the claim hands the new records over to its
owner without reading them. In every other case it reads.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from transport.contract import Envelope, Record, Topic
from transport.message.envelope import HEADER_MESSAGE_ID
from transport.redis.records import is_later

__all__ = ["OfferedClaim", "OwnAppends", "Run"]

_RECORD_BYTES = 2048
"""The approximate bytes of a record and its event in memory, without the body."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Adjacent records of one partition, right after the record ``before``."""

    before: str
    envelopes: list[Envelope]
    offsets: list[str]

    @property
    def last(self) -> str:
        """The id of the last record."""
        return self.offsets[-1]

    @property
    def last_message(self) -> str:
        """The message id of the last record, or an empty string."""
        return self.envelopes[-1].headers.get(HEADER_MESSAGE_ID, "")

    @property
    def size(self) -> int:
        """The approximate bytes of this run in memory."""
        return sum(_RECORD_BYTES + 2 * len(envelope.body) for envelope in self.envelopes)

    def after(self, offset: str) -> Run | None:
        """Return the records of this run after ``offset``; ``None`` if there are none."""
        if offset == self.before:
            return self
        if offset in self.offsets:
            read = self.offsets.index(offset) + 1
            return (
                Run(offset, self.envelopes[read:], self.offsets[read:])
                if read < len(self.offsets)
                else None
            )
        return self if is_later(self.last, offset) else None

    def records(self) -> list[Record]:
        """Return the records as a read would."""
        return [
            Record(
                Topic.MESSAGES,
                envelope.partition,
                offset,
                envelope.key,
                envelope.body,
                {name: value.encode() for name, value in envelope.headers.items()},
                int(offset.split("-", 1)[0]) / 1000,
                1,
                envelope.event,
                envelope.fingerprint,
            )
            for envelope, offset in zip(self.envelopes, self.offsets, strict=True)
        ]


class OfferedClaim(Protocol):
    """A claim that takes records that its own process appended."""

    def offer(self, run: Run, *, is_last: bool) -> None:
        """Take the records if they come next.

        ``is_last``: no other append is under way.
        """


class OwnAppends:
    """Offers the appends of this process to its claims, by partition."""

    def __init__(self) -> None:
        self._begun = 0
        self._under_way: dict[int, None] = {}  # the numbers of the appends that have no answer yet
        self._ended: asyncio.Future[None] | None = None
        self._claims: dict[int, OfferedClaim] = {}

    @property
    def are_wanted(self) -> bool:
        """Whether any claim takes appends."""
        return bool(self._claims)

    def join(self, partition: int, claim: OfferedClaim) -> None:
        """Offer the appends to ``partition`` to this claim from now on."""
        self._claims[partition] = claim

    def leave(self, partition: int, claim: OfferedClaim) -> None:
        """Offer nothing more to this claim."""
        if self._claims.get(partition) is claim:
            del self._claims[partition]

    def begin(self) -> int:
        """Note that an append begins, and return its number."""
        self._begun += 1
        self._under_way[self._begun] = None
        return self._begun

    def end(self, number: int) -> None:
        """Note that the answer to an append is here, and that its records were offered."""
        del self._under_way[number]
        if self._ended is not None:
            self._ended.set_result(None)
            self._ended = None

    async def answered(self, seconds: float) -> None:
        """Return once the appends under way now are answered, or after ``seconds``.

        The log may show their records before that.
        """
        begun, loop = self._begun, asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._under_way and next(iter(self._under_way)) <= begun:
            left = deadline - loop.time()
            if left <= 0:
                return
            if self._ended is None:
                self._ended = loop.create_future()
            await asyncio.wait([self._ended], timeout=left)

    def appended(self, partition: int, run: Run) -> None:
        """Offer the records of an append that is still under way."""
        claim = self._claims.get(partition)
        if claim is not None:
            claim.offer(run, is_last=len(self._under_way) == 1)
