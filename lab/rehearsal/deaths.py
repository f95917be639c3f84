"""Finds processes and servers that ended by themselves, without a fault."""

from __future__ import annotations

from collections.abc import Sequence

from lab.harness.anomaly import Anomaly, What
from lab.rehearsal.part import Part

__all__ = ["DeathWatch"]


class DeathWatch:
    """Reports each part that ended by itself, once per run.

    Args:
        parts: The processes and servers to watch.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._told: set[str] = set()

    def look(self) -> list[Anomaly]:
        """Return an anomaly for each part that ended by itself, except those reported before.

        A part counts if it is down now, or was down when a fault or a restart came to it.
        """
        ended = [part for part in self._parts if part.ended_alone or part.was_found_down]
        new = [part.name for part in ended if part.name not in self._told]
        self._told.update(new)
        text = "its process ended, and no fault had ended it"
        return [Anomaly(What.STUCK, name, text) for name in new]
