"""The time limits of a member of a group."""

from __future__ import annotations

from typing import NamedTuple

from transport.contract import Topic

__all__ = ["Timing"]

_DAMAGE_BORNE = 2  # times the limit of a request
_FOR_ROWS, _FOR_STANDBYS, _FOR_LETTERS = 0.25, 0.5, 3.0
_SHORTEST_HEARTBEAT = 0.05


class Timing(NamedTuple):
    """Time limits in seconds.

    ``lease``: a silent member loses its partitions. ``drain``: an owner has to finish its batch
    when its partition is revoked. ``request``: one request.
    """

    lease: float
    drain: float
    request: float

    @classmethod
    def of(cls, lease: float, request: float) -> Timing:
        """Derive the timing from a lease."""
        return cls(lease, min(max(lease / 2, 1.0), 10.0), request)

    @property
    def rebalance(self) -> float:
        """Seconds that the group waits for a member to join again before it goes on without it."""
        return self.drain + max(self.lease, 5.0)

    @property
    def damage(self) -> float:
        """Seconds for which a damaged batch is read again: enough to find a leader that moved."""
        return _DAMAGE_BORNE * self.request

    def heartbeat(self, topic: Topic, *, lingers: bool) -> float:
        """Return the seconds between two heartbeats of a member.

        Only the answer to a heartbeat tells a member that another one has come or gone. Until all
        members know, those that have joined again read nothing. ``lingers``: the member is in no
        hurry for records, but other members of its group may be.
        """
        most = _FOR_STANDBYS if lingers else _FOR_ROWS
        if topic is Topic.DEAD_LETTERS:
            most = _FOR_LETTERS
        return max(_SHORTEST_HEARTBEAT, min(most, self.lease / 4))
