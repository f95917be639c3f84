"""What this process appends, handed to its own claims without reading it from the log.

An append answers, for each stream, which record stood before its first. Where that is the last one
that the claim was given, the new ones are what it would read next, and it is handed them. In every
other case it reads.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from transport.contract import Envelope, Record, Topic
from transport.envelope import HEADER_MESSAGE_ID
from transport.redis.records import sort_key

__all__ = ["HandOver", "KeptRuns", "Run", "Successor"]

_MOST_KEPT_BYTES = 256 << 10
"""Of one claim: then the log is read."""
_RECORD_BYTES = 1536
"""What a record takes in memory beside its body, as measured."""


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
        return sum(_RECORD_BYTES + len(envelope.body) for envelope in self.envelopes)

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
        return self if sort_key(self.last) > sort_key(offset) else None

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
            )
            for envelope, offset in zip(self.envelopes, self.offsets, strict=True)
        ]


class Successor(Protocol):
    """Whoever goes on with a partition: its claim."""

    def offer(self, run: Run, *, is_last: bool) -> None:
        """Take the records if they are what comes next; ``is_last``: no append is under way."""


class HandOver:
    """The claims of this process, by partition, and the appends to them."""

    def __init__(self) -> None:
        self.by_slot = False
        """Whether each call touches one partition only."""
        self.appending = 0
        """Appends under way. The log may show their records before the answers are here."""
        self._claims: dict[int, Successor] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether any claim would be handed anything."""
        return bool(self._claims)

    def join(self, partition: int, claim: Successor) -> None:
        """Offer this claim what is appended to its partition from now on."""
        self._claims[partition] = claim

    def leave(self, partition: int, claim: Successor) -> None:
        """Offer it nothing more."""
        if self._claims.get(partition) is claim:
            del self._claims[partition]

    def appended(self, partition: int, run: Run) -> None:
        """Hand over what an append that is still counted in ``appending`` has added."""
        claim = self._claims.get(partition)
        if claim is not None:
            claim.offer(run, is_last=self.appending == 1)


class KeptRuns:
    """Runs that are not what comes next yet: other records, or another append's, stand before."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._size = 0

    def keep(self, run: Run) -> None:
        """Keep a run; forget all where they become too large."""
        self._runs[run.before] = run
        self._size += run.size
        if self._size > _MOST_KEPT_BYTES:
            self._runs.clear()
            self._size = 0

    def after(self, offset: str) -> Run | None:
        """Return the run right after the record at ``offset``, if there is one, and forget it."""
        run = self._runs.pop(offset, None)
        if run is not None:
            self._size -= run.size
        return run

    def read(self, offset: str) -> None:
        """Forget what is not after the record at ``offset``."""
        kept = [rest for run in self._runs.values() if (rest := run.after(offset))]
        self._runs = {run.before: run for run in kept}
        self._size = sum(run.size for run in kept)
