"""Appends of this process, offered to its own claims.

An append answers, for each stream, which record stood before its first. Where that is the last one
that the claim was given, the new ones are what it would read next, and it hands them over to its
owner. In every other case it reads.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from transport.contract import Envelope, Record, Topic
from transport.message.envelope import HEADER_MESSAGE_ID
from transport.redis.records import is_later

__all__ = ["OfferedClaim", "OwnAppends", "Run"]

_RECORD_BYTES = 2048
"""The bytes that a record and its event take in memory beside the body, about."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Records of one partition that stand next to each other in the log, right after ``before``."""

    before: str
    envelopes: list[Envelope]
    offsets: list[str]

    @property
    def last(self) -> str:
        """The last one's id."""
        return self.offsets[-1]

    @property
    def last_message(self) -> str:
        """The last one's message id, or an empty string."""
        return self.envelopes[-1].headers.get(HEADER_MESSAGE_ID, "")

    @property
    def size(self) -> int:
        """How many bytes it takes in memory, about."""
        return sum(_RECORD_BYTES + 2 * len(envelope.body) for envelope in self.envelopes)

    def after(self, offset: str) -> Run | None:
        """Return what of it stands after the record at ``offset``; ``None`` if nothing does."""
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
        """Return them as reading would."""
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
    """The claim of a partition, as far as it takes what this process appends."""

    def offer(self, run: Run, *, is_last: bool) -> None:
        """Take the records if they are what comes next; ``is_last``: no append is under way."""


class OwnAppends:
    """The appends of this process, and its claims, by partition, that they are offered to."""

    def __init__(self) -> None:
        self.under_way = 0
        """How many. The log may show their records before the answers are here."""
        self._claims: dict[int, OfferedClaim] = {}

    @property
    def are_wanted(self) -> bool:
        """Whether there is any claim to offer them to."""
        return bool(self._claims)

    def join(self, partition: int, claim: OfferedClaim) -> None:
        """Offer this claim what is appended to its partition from now on."""
        self._claims[partition] = claim

    def leave(self, partition: int, claim: OfferedClaim) -> None:
        """Offer it nothing more."""
        if self._claims.get(partition) is claim:
            del self._claims[partition]

    def appended(self, partition: int, run: Run) -> None:
        """Offer what an append that is still counted in ``under_way`` has added."""
        claim = self._claims.get(partition)
        if claim is not None:
            claim.offer(run, is_last=self.under_way == 1)
