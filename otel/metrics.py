"""The process's metrics: one registry, to which each room adds its own.

A room declares its metrics in a class beside their users. Label children that an alert reads are
created at zero, or ``rate()`` would not see their first increment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry

__all__ = ["Metrics"]

_Room = TypeVar("_Room")


class Metrics:
    """The metrics of a process. Use: ``metrics.of(IngressMetrics).queue.set(3)``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rooms: dict[Callable[[CollectorRegistry], Any], Any] = {}

    @property
    def rooms(self) -> Mapping[Callable[[CollectorRegistry], Any], Any]:
        """The rooms' metrics that exist so far, by class."""
        return self._rooms

    def of(self, room: Callable[[CollectorRegistry], _Room]) -> _Room:
        """Return a room's metrics, the same ones each time; the first call registers them."""
        if room not in self._rooms:
            self._rooms[room] = room(self.registry)
        return cast("_Room", self._rooms[room])
