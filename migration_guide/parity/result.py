"""Results of a comparison, message by message, and their summary."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = [
    "COMPARED",
    "DIFFERENCES",
    "UNCOMPARED",
    "ParityCounts",
    "ParityResult",
    "Sample",
    "Verdict",
]


class ParityResult(StrEnum):
    """The ``result`` label of ``shadow_parity_total``. Counts messages; the three orders, pairs."""

    MATCHED = "matched"
    """The original and its copy, byte for byte."""
    MISSING_IN_SHADOW = "missing_in_shadow"
    """An original of the primary without a copy, though it had time to come."""
    MISSING_IN_PRIMARY = "missing_in_primary"
    """An original of the shadow without a copy, or a copy whose original the primary lost."""
    DIFFERENT_BYTES = "different_bytes"
    """The body differs, or the key, or a header that must agree."""
    ORDER_DIFFERS = "order_differs"
    """Two messages of a conversation stand in opposite order, and nothing proves that their
    requests overlapped."""
    ORDER_OVERLAPPED = "order_overlapped"
    """Opposite order, but neither was acknowledged before the other was sent: allowed."""
    ORDER_BACKFILLED = "order_backfilled"
    """Opposite order because a backfill appended the copy, late on purpose."""
    DUPLICATE = "duplicate"
    """One more record of a message that both logs have or remember. The rows stay single."""
    CONFLICT = "conflict"
    """A second body under one key, both accepted at once: a worker dead-letters one of them, and
    the other log, if it remembers keys, has not taken both."""
    NOT_YET_COMPARABLE = "not_yet_comparable"
    """Too young, or the other log is not read that far: judged later, not guessed."""
    TRIMMED = "trimmed"
    """The other log no longer holds, or does not yet hold, the time of this record."""


class Verdict(StrEnum):
    """The overall answer. If nothing was compared, the logs do not count as equal."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOTHING = "nothing to compare"


DIFFERENCES = (
    ParityResult.MISSING_IN_SHADOW,
    ParityResult.MISSING_IN_PRIMARY,
    ParityResult.DIFFERENT_BYTES,
    ParityResult.ORDER_DIFFERS,
)
"""Results that make the verdict ``differs``."""

COMPARED = (
    ParityResult.MATCHED,
    ParityResult.MISSING_IN_SHADOW,
    ParityResult.MISSING_IN_PRIMARY,
    ParityResult.DIFFERENT_BYTES,
)
"""Results that count as compared, message by message."""

UNCOMPARED = (ParityResult.NOT_YET_COMPARABLE, ParityResult.TRIMMED)
"""Results of messages that could not be compared: the rest of the coverage."""


class Sample(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One finding, with everything needed to look it up. An offset is ``None`` if there is none.

    ``other``: the id of the other message of a pair whose order differs. ``shadow_partition``: the
    partition in the shadow, if its number differs from the primary's.
    """

    result: ParityResult
    partition: int
    message_id: str
    primary_offset: str | None
    shadow_offset: str | None
    correlation_id: str
    trace_id: str | None
    detail: str
    other: str | None = None
    shadow_partition: int | msgspec.UnsetType = msgspec.UNSET


class ParityCounts(msgspec.Struct, gc=False):
    """Counts by result, and what they add up to."""

    counts: dict[ParityResult, int] = msgspec.field(default_factory=dict)

    def add(self, result: ParityResult, count: int = 1) -> None:
        """Add to a count; a negative ``count`` takes back a result that turned out otherwise."""
        if count:
            self.counts[result] = self.counts.get(result, 0) + count

    def merge(self, other: ParityCounts) -> None:
        """Add another's counts."""
        for result, count in other.counts.items():
            self.add(result, count)

    def of(self, *results: ParityResult) -> int:
        """Return the sum of some results."""
        return sum(self.counts.get(result, 0) for result in results)

    @property
    def compared(self) -> int:
        """Messages that were compared."""
        return self.of(*COMPARED)

    @property
    def coverage(self) -> float | None:
        """Compared messages, as a share of all; ``None`` where there were none at all."""
        every = self.compared + self.of(*UNCOMPARED)
        return self.compared / every if every else None

    @property
    def parity(self) -> float | None:
        """Matched messages, as a share of the compared; ``None`` where nothing was compared."""
        return self.of(ParityResult.MATCHED) / self.compared if self.compared else None

    @property
    def verdict(self) -> Verdict:
        """Whether the logs are equal as far as they were compared."""
        if self.of(*DIFFERENCES) > 0:
            return Verdict.DIFFERS
        return Verdict.EQUAL if self.compared > 0 else Verdict.NOTHING
