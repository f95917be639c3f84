"""Hooks through which observers watch the shadow.

They are called on the event loop, so they return at once and never raise.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from transport.shadow.outcomes import Drop

__all__ = ["BreakerState", "GapLedger", "NoGaps", "NullObserver", "ShadowBacklog", "ShadowObserver"]

BreakerState = Literal["closed", "open", "half_open"]


class ShadowBacklog(msgspec.Struct, frozen=True, gc=False):
    """Copies that wait for the shadow. ``oldest_since`` is of ``time.monotonic``; 0 if none."""

    records: int = 0
    size: int = 0
    oldest_since: float = 0.0


class ShadowObserver(Protocol):
    """Counts."""

    def published(self, outcome: str, records: int) -> None:
        """Count copies that ended like this: a ``Sent``, or the label of a ``Drop``."""

    def waiting(self, backlog: ShadowBacklog) -> None:
        """Take note of how much waits now."""

    def breaker(self, state: BreakerState) -> None:
        """Take note of the state that the breaker is in from now on."""


class GapLedger(Protocol):
    """Records messages that the shadow will not get, so that a backfill can find them."""

    @property
    def unwritten(self) -> int | None:
        """How many messages are noted and not yet where others see it; ``None``: it can't tell."""

    def note(self, partition: int, drop: Drop, offset: str | None) -> None:
        """Note one message. ``offset`` is its place in the primary, where that is known."""


class NullObserver:
    """An observer that looks away."""

    def published(self, outcome: str, records: int) -> None:
        """See ``ShadowObserver``."""

    def waiting(self, backlog: ShadowBacklog) -> None:
        """See ``ShadowObserver``."""

    def breaker(self, state: BreakerState) -> None:
        """See ``ShadowObserver``."""


class NoGaps:
    """A ledger that keeps nothing: where there is no database to keep it in."""

    unwritten = None

    def note(self, partition: int, drop: Drop, offset: str | None) -> None:
        """See ``GapLedger``."""
