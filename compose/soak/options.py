"""Options of a soak."""

from __future__ import annotations

import msgspec

from compose.local.broker_settings import FIRST

__all__ = ["SoakOptions"]


class SoakOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Options of a soak: its length, its load, its faults, and how it is looked at."""

    minutes: float = 120.0
    log: str = FIRST
    rate: float = 100.0
    """New messages a second, all writers together, as long as they are answered in time."""
    conversations: int = 60
    """Conversations of each round with one writer each."""
    crowded: int = 6
    """Conversations of each round with three writers each, whose requests overlap."""
    ingresses: int = 2
    workers: int = 2
    large: float = 0.0
    """The share of bodies whose content is large, and so in a payload store."""
    fault_seconds: float = 20.0
    """The mean time between two faults; 0: none."""
    round_seconds: float = 180.0
    """After so long what was sent is judged, archived and forgotten, beside the next round."""
    sample_seconds: float = 10.0
    judged_seconds: float = 600.0
    """A series that is shorter, without its warm-up, does not tell whether anything grows."""
    seed: int = 0

    @property
    def seconds(self) -> float:
        """How long the load runs."""
        return self.minutes * 60

    def warm_up(self, seconds: float) -> float:
        """Return how much of a run of ``seconds`` is its warm-up: a third, or three rounds."""
        return max(seconds / 3, min(3 * self.round_seconds, seconds / 2))
