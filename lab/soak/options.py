"""Options of a soak."""

from __future__ import annotations

import msgspec

from lab.soak.broker_settings import FIRST

__all__ = ["SoakOptions"]


class SoakOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Options of a soak: its length, load, faults, rounds and samples."""

    minutes: float = 120.0
    log: str = FIRST
    rate: float = 100.0
    """New messages per second of all writers together, if answers come in time."""
    conversations: int = 60
    """Conversations per round with one writer each."""
    crowded: int = 6
    """Conversations per round with three writers each, whose requests overlap."""
    ingresses: int = 2
    workers: int = 2
    large: float = 0.0
    """Share of bodies with large content, which goes to a payload store."""
    fault_seconds: float = 20.0
    """Mean time between two faults; 0: no faults."""
    round_seconds: float = 180.0
    """Length of a round. Its messages are judged, archived and forgotten during the next round."""
    sample_seconds: float = 10.0
    judged_seconds: float = 600.0
    """Shortest time after the warm-up that allows a verdict on growth."""
    seed: int = 0

    @property
    def seconds(self) -> float:
        """How long the load runs, in seconds."""
        return self.minutes * 60

    def warm_up(self, seconds: float) -> float:
        """Return the warm-up of a run of ``seconds``: a third of it, or three rounds if longer.

        Three rounds count only up to half of the run.
        """
        return max(seconds / 3, min(3 * self.round_seconds, seconds / 2))
