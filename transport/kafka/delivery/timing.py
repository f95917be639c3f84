"""Time limits of a member of a group."""

from __future__ import annotations

from typing import NamedTuple

from transport.contract import Topic

__all__ = ["Timing"]

_DAMAGE_BORNE = 2  # requests' worth of time
_FOR_ROWS, _FOR_STANDBYS, _FOR_LETTERS = 0.25, 0.5, 3.0
_SHORTEST_HEARTBEAT = 0.05


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

    def heartbeat(self, topic: Topic, *, lingers: bool) -> float:
        """Return the most seconds between two heartbeats of a member.

        Their answers alone tell it that another one has come or gone, and until all have learnt it,
        those that have read nothing. ``lingers``: it is in no hurry for records, but in the group
        of those that are.
        """
        most = _FOR_STANDBYS if lingers else _FOR_ROWS
        if topic is Topic.DEAD_LETTERS:
            most = _FOR_LETTERS
        return max(_SHORTEST_HEARTBEAT, min(most, self.lease / 4))
