"""The appends of this process in the last seconds, kept because a failover may lose them.

A repeat that was answered from the log's memory is kept as well: the answer acknowledged it. The
process that appended its record may not know that it did, since the reply was lost, or may have
ended.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.redis.records import sort_key

__all__ = ["RecentAppend", "RecentAppends", "RecentAppendsBudget"]

_MOST_BYTES = 32 << 20
_RECORD_BYTES = 1024
"""The approximate bytes of an envelope in memory, without its body."""
_LONGEST_OUTAGE_SECONDS = 3600.0


class RecentAppend(NamedTuple):
    """One record, and its offset in the log."""

    offset: str
    envelope: Envelope
    remember: bool
    """Whether repeats are recognised by the message id; otherwise they are appended."""


class _Trip(NamedTuple):
    at: float
    size: int
    envelopes: Sequence[Envelope]
    outcomes: Sequence[Outcome]
    remember: bool


class RecentAppendsBudget:
    """Counts the kept appends of one process, of all partitions; the oldest are dropped first."""

    def __init__(self) -> None:
        self.bytes = 0
        self.users: list[RecentAppends] = []

    def drop_oldest(self) -> None:
        """Drop the oldest trips until the limit of memory is kept."""
        while self.bytes > _MOST_BYTES:
            min(self.users, key=RecentAppends.oldest).drop_one()


class RecentAppends:
    """The appends of the last ``seconds``, within a limit of memory; the oldest are dropped first.

    These seconds end with the last write that the server took: while it takes none, the records
    that it may have lost do not age. (Records older than an hour are dropped: appended again, they
    would come too late.)
    """

    def __init__(self, seconds: float, budget: RecentAppendsBudget | None = None) -> None:
        self._seconds = seconds
        self._trips: deque[_Trip] = deque()
        self._held: deque[_Trip] = deque()  # not in the budget; older than all of `_trips`
        self._budget = budget or RecentAppendsBudget()
        self._budget.users.append(self)

    def add(
        self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome], *, remember: bool
    ) -> None:
        """Note the outcomes of one trip, in order."""
        if not self._seconds or not any(map(_told_offset, envelopes, outcomes)):
            return
        now = time.monotonic()
        envelopes = [msgspec.structs.replace(it, event=None) for it in envelopes]
        size = sum([len(envelope.body) for envelope in envelopes]) + _RECORD_BYTES * len(envelopes)
        self._trips.append(_Trip(now, size, envelopes, outcomes, remember))
        self._budget.bytes += size
        self._drop(now - self._seconds)
        self._budget.drop_oldest()

    def age(self) -> None:
        """Drop the appends that are too old; called when the server takes a write."""
        self._drop(time.monotonic() - self._seconds)

    def hold(self) -> None:
        """Keep all that is here now until ``let_go``: a rescue appends it again.

        The rescue's own appends are noted as well, and would else have old ones dropped. If another
        failover ends the rescue halfway, those are all that is left of their records.
        """
        self._budget.bytes -= sum(trip.size for trip in self._trips)
        self._held += self._trips
        self._trips.clear()

    def let_go(self) -> None:
        """Let what was held age again."""
        self._budget.bytes += sum(trip.size for trip in self._held)
        self._trips.extendleft(reversed(self._held))
        self._held.clear()
        self._budget.drop_oldest()

    def by_partition(self) -> dict[int, list[RecentAppend]]:
        """Return the acknowledged records by partition, in the order of their offsets.

        Concurrent trips may end in another order than the server executed them. Of a record and its
        repeats, the one that was kept first is returned.
        """
        oldest = time.monotonic() - _LONGEST_OUTAGE_SECONDS
        found: dict[int, dict[tuple[str, str], RecentAppend]] = {}
        for trip in (it for it in (*self._held, *self._trips) if it.at >= oldest):
            for envelope, outcome in zip(trip.envelopes, trip.outcomes, strict=True):
                if offset := _told_offset(envelope, outcome):
                    some = found.setdefault(envelope.partition, {})
                    it = RecentAppend(offset, envelope, trip.remember)
                    some.setdefault((offset, envelope.message_id), it)
        return {
            partition: sorted(some.values(), key=lambda it: sort_key(it.offset))
            for partition, some in found.items()
        }

    def forget(self, some: Iterable[RecentAppend]) -> None:
        """Drop these appends, whose records have other offsets in the log now."""
        gone = {(it.envelope.partition, it.offset) for it in some}
        if not gone:
            return
        for trips in (self._held, self._trips):
            for i, trip in enumerate(trips):
                left = [
                    (envelope, outcome)
                    for envelope, outcome in zip(trip.envelopes, trip.outcomes, strict=True)
                    if (offset := _told_offset(envelope, outcome))
                    and (envelope.partition, offset) not in gone
                ]
                trips[i] = trip._replace(
                    envelopes=[envelope for envelope, _ in left], outcomes=[it for _, it in left]
                )

    def oldest(self) -> float:
        """Return when the oldest trip ended; infinity if there is none."""
        return self._trips[0].at if self._trips else math.inf

    def drop_one(self) -> None:
        """Drop the oldest trip."""
        self._budget.bytes -= self._trips.popleft().size

    def _drop(self, before: float) -> None:
        while self.oldest() < before:
            self.drop_one()


def _told_offset(envelope: Envelope, outcome: Outcome) -> str | None:
    """Return the offset of an acknowledged message; ``None`` if it was not acknowledged.

    A repeat with another body than its record's is refused.
    """
    if type(outcome) is Appended:
        return outcome.offset
    if type(outcome) is Remembered and outcome.fingerprint == envelope.fingerprint:
        return outcome.offset
    return None
