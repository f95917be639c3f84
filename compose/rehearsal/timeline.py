"""Timeline of a rehearsal, in seconds since it began: phases, processes, faults, gates."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = [
    "Band",
    "FaultMark",
    "GateMark",
    "PlaceMark",
    "RehearsalTimeline",
    "StateSpan",
    "Waited",
]


_TICKS = 0.005


class Band(msgspec.Struct, kw_only=True, rename="camel"):
    """One phase of the walk: ``begun`` when the first process was restarted to it."""

    phase: int
    back: bool
    """Whether it was reached by rolling back."""
    begun: float
    rolled: float | None = None
    """When the last process had been restarted to it."""
    ended: float | None = None


class StateSpan(msgspec.Struct, kw_only=True, rename="camel"):
    """A period of one process or server. ``state`` is ``up``, ``down`` or ``suspended``."""

    state: str
    begun: float
    phase: int | None = None
    ended: float | None = None


class FaultMark(msgspec.Struct, kw_only=True, rename="camel"):
    """A fault: when it was done, undone, and when the load was seen to go on."""

    victim: str
    way: str
    phase: int
    rolling: bool
    """Whether a rolling restart was under way."""
    begun: float
    healed: float | None = None
    went_on: float | None = None


class Waited(msgspec.Struct, rename="camel"):
    """A gate that kept a step waiting, for how many seconds in all, and what it said last."""

    name: str
    seconds: float
    reason: str


class GateMark(msgspec.Struct, kw_only=True, rename="camel"):
    """A step that was asked for, which gates it waited for, and what each said in the end."""

    frm: int = msgspec.field(name="from")
    to: int
    begun: float
    passed: float | None = None
    gates: list[dict[str, Any]] = msgspec.field(default_factory=list)
    waited: list[Waited] = msgspec.field(default_factory=list)


class PlaceMark(msgspec.Struct):
    """The workers' group was seen at ``offset`` in a partition: it had acknowledged up to there."""

    log: str
    partition: int
    offset: str
    at: float


class RehearsalTimeline:
    """The record of one rehearsal. Its clock is the monotonic one that attempts are timed by."""

    def __init__(self) -> None:
        self.zero = time.monotonic()
        self.started_at = datetime.now(UTC)
        self.bands: list[Band] = []
        self.tracks: dict[str, list[StateSpan]] = {}
        self.faults: list[FaultMark] = []
        self.gates: list[GateMark] = []
        self.places: list[PlaceMark] = []
        """Where the workers' group was seen, whenever that was another place than before."""
        self._wall = _wall_minus_monotonic()

    @property
    def now(self) -> float:
        """Seconds since the rehearsal began."""
        return round(time.monotonic() - self.zero, 3)

    def clock(self) -> tuple[float, float]:
        """Return the wall clock's lead on the monotonic one, and the error of the former in it.

        Both in seconds. The servers' moments are the wall clock's, which may be corrected while the
        rehearsal runs. A server's clock ticks in milliseconds.
        """
        now = _wall_minus_monotonic()
        return (self._wall + now) / 2, abs(now - self._wall) / 2 + _TICKS

    @property
    def phase(self) -> int:
        """The phase that is under way."""
        return self.bands[-1].phase

    @property
    def rolling(self) -> bool:
        """Whether processes are being restarted to it."""
        return self.bands[-1].rolled is None

    def begin(self) -> None:
        """Count from now on: everything before was preparation."""
        self.zero = time.monotonic()
        self.started_at = datetime.now(UTC)
        for spans in self.tracks.values():
            spans[:] = spans[-1:]
            spans[0].begun = 0.0

    def enter(self, phase: int, *, back: bool = False) -> Band:
        """Begin a phase, which ends the one before."""
        if self.bands:
            self.bands[-1].ended = self.now
        band = Band(phase=phase, back=back, begun=self.now)
        self.bands.append(band)
        return band

    def mark(self, track: str, state: str, phase: int | None = None) -> None:
        """Say that a process or server is in another state from now on."""
        spans = self.tracks.setdefault(track, [])
        if spans:
            spans[-1].ended = self.now
        spans.append(StateSpan(state=state, begun=self.now, phase=phase))

    def state_of(self, track: str) -> str | None:
        """Return the last state of a process or server; ``None`` before its first."""
        spans = self.tracks.get(track)
        return spans[-1].state if spans else None

    def close(self) -> None:
        """End every span that is still open."""
        for spans in self.tracks.values():
            spans[-1].ended = self.now
        if self.bands:
            self.bands[-1].ended = self.now


def _wall_minus_monotonic() -> float:
    return time.time() - time.monotonic()
