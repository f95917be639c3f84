"""The way from the migration's phase to one of its logs: the phases ahead, in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec

from migration_guide.phases import LAST, Phase, phases
from persistence.fleet.log_choice import LogPair
from persistence.fleet.migration_state import MigrationState

__all__ = ["Way", "way_of_plan", "way_to"]


class Way(msgspec.Struct, frozen=True):
    """The phases ahead.

    Args:
        pair: the logs of the migration.
        at: the phase that processes run, or are being restarted to.
        goal: the phase to end at.
        begun: whether a step to ``at`` was begun in this direction and is not complete.
    """

    pair: LogPair
    at: int
    goal: int
    begun: bool = False

    @property
    def forward(self) -> bool:
        """Whether it leads to the new log."""
        return self.goal == LAST

    @property
    def ahead(self) -> list[int]:
        """The numbers of the phases ahead for which no step was begun, in order."""
        direction = 1 if self.forward else -1
        return list(range(self.at + direction, self.goal + direction, direction))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not self.ahead and not self.begun

    def steps(self) -> Iterator[tuple[Phase, Phase]]:
        """Yield the phases before and after each step ahead."""
        every = phases(self.pair)
        for before, after in itertools.pairwise([self.at, *self.ahead]):
            yield every[before], every[after]


def way_to(state: MigrationState, log: str) -> Way | None:
    """Return the way to ``log``; ``None`` if it is neither log of the migration."""
    if log not in state.pair.names:
        return None
    goal = LAST if log == state.pair.new else 0
    at = state.target
    onwards = state.target == goal or (state.target > state.phase) == (goal > at)
    return Way(state.pair, at, goal, begun=state.under_way and onwards)


def way_of_plan(pair: LogPair) -> Way:
    """Return the way of a migration that is being planned."""
    return Way(pair, 0, LAST)
