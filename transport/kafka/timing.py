"""Time limits of a member of a group."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Timing"]

_DAMAGE_BORNE = 2  # requests' worth of time


class Timing(NamedTuple):
    """Seconds: a silent member's ``lease``, ``drain`` for a batch in hand, one ``request``."""

    lease: float
    drain: float
    request: float

    @classmethod
    def of(cls, lease: float, request: float) -> Timing:
        """Derive the timing from a lease."""
        return cls(lease, min(max(lease / 2, 1.0), 10.0), request)

    @property
    def rebalance(self) -> float:
        """How long the group waits for a member to join again before it goes on without."""
        return self.drain + max(self.lease, 5.0)

    @property
    def damage(self) -> float:
        """For how long a damaged batch is read again: a leader that moves is found by then."""
        return _DAMAGE_BORNE * self.request
