"""The last seconds of what this process appended: a failover may lose what was acknowledged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from transport.contract import Appended, Envelope, Outcome
from transport.redis.records import sort_key

__all__ = ["RecentAppend", "RecentAppends"]

_MOST_BYTES = 32 << 20
_RECORD_BYTES = 1024
"""What an envelope takes beside its body, about."""


class RecentAppend(NamedTuple):
    """One record, and where it stood in the log."""

    offset: str
    envelope: Envelope
    remember: bool
    """Whether a repeat was to be told by its id; otherwise it is appended, whatever stands."""


class _Trip(NamedTuple):
    at: float
    size: int
    envelopes: Sequence[Envelope]
    outcomes: Sequence[Outcome]
    remember: bool


class RecentAppends:
    """What was appended in the last ``seconds``, as far as it is not too large; the oldest go."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._trips: deque[_Trip] = deque()
        self._size = 0

    def add(
        self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome], *, remember: bool
    ) -> None:
        """Note the outcomes of one trip, in order."""
        if not self._seconds:
            return
        now = time.monotonic()
        size = sum([len(envelope.body) for envelope in envelopes]) + _RECORD_BYTES * len(envelopes)
        self._trips.append(_Trip(now, size, envelopes, outcomes, remember))
        self._size += size
        while self._trips and (self._size > _MOST_BYTES or now - self._trips[0].at > self._seconds):
            self._size -= self._trips.popleft().size

    def by_partition(self) -> dict[int, list[RecentAppend]]:
        """Return the records that were acknowledged as appended, in the order of each partition.

        Trips end in another order than the server made them, where several are under way.
        """
        found: dict[int, list[RecentAppend]] = {}
        for trip in self._trips:
            for envelope, outcome in zip(trip.envelopes, trip.outcomes, strict=True):
                if type(outcome) is Appended:
                    some = found.setdefault(envelope.partition, [])
                    some.append(RecentAppend(outcome.offset, envelope, trip.remember))
        for some in found.values():
            some.sort(key=lambda it: sort_key(it.offset))
        return found

    def clear(self) -> None:
        """Forget all."""
        self._trips.clear()
        self._size = 0
