"""Processes and servers that ended although no fault had ended them."""

from __future__ import annotations

from collections.abc import Sequence

from compose.harness.anomaly import Anomaly, What
from compose.rehearsal.part import Part

__all__ = ["DeathWatch"]


class DeathWatch:
    """Tells of each death once.

    Args:
        parts: What is watched.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._told: set[str] = set()

    def look(self) -> list[Anomaly]:
        """Return those that are down now, or were when a fault came to them, since the last look.

        A part is told of once in a run, however often it ends.
        """
        ended = [part for part in self._parts if part.ended_alone or part.was_found_down]
        new = [part.name for part in ended if part.name not in self._told]
        self._told.update(new)
        text = "its process ended, and no fault had ended it"
        return [Anomaly(What.STUCK, name, text) for name in new]
