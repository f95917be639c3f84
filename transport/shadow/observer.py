"""The interfaces of observers of the shadow, and of the gap ledger.

They are called on the event loop, so they return at once and never raise.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from transport.shadow.outcomes import Drop

__all__ = ["BreakerState", "GapLedger", "NoGaps", "NullObserver", "ShadowBacklog", "ShadowObserver"]

BreakerState = Literal["closed", "open", "half_open"]


class ShadowBacklog(msgspec.Struct, frozen=True, gc=False):
    """The copies that wait for the shadow: their number, their bytes, and the oldest.

    ``oldest_since`` is a time of ``time.monotonic``; 0 if none waits.
    """

    records: int = 0
    size: int = 0
    oldest_since: float = 0.0


class ShadowObserver(Protocol):
    """Counts the outcomes of copies, and follows the backlog and the breaker."""

    def published(self, outcome: str, records: int) -> None:
        """Count copies with this outcome: a ``Sent``, or the label of a ``Drop``."""

    def waiting(self, backlog: ShadowBacklog) -> None:
        """Note the current backlog."""

    def breaker(self, state: BreakerState) -> None:
        """Note the new state of the breaker."""


class GapLedger(Protocol):
    """Records messages that the shadow will not get, so that a backfill can find them."""

    @property
    def unwritten(self) -> int | None:
        """The number of noted messages that other processes can't see yet; ``None`` if unknown."""

    def note(self, partition: int, drop: Drop, offset: str | None) -> None:
        """Note one message. ``offset`` is its offset in the primary, if that is known."""


class NullObserver:
    """An observer that does nothing."""

    def published(self, outcome: str, records: int) -> None:
        """See ``ShadowObserver``."""

    def waiting(self, backlog: ShadowBacklog) -> None:
        """See ``ShadowObserver``."""

    def breaker(self, state: BreakerState) -> None:
        """See ``ShadowObserver``."""


class NoGaps:
    """A ledger that keeps nothing, for processes without a database."""

    unwritten = None

    def note(self, partition: int, drop: Drop, offset: str | None) -> None:
        """See ``GapLedger``."""
