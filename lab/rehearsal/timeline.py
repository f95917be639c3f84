"""The timeline of a rehearsal: phases, processes, faults and gates, in seconds since its start."""

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
    """One phase of the walk; it begins when the first process is restarted to it."""

    phase: int
    back: bool
    """Whether it was reached by rolling back."""
    begun: float
    rolled: float | None = None
    """When the last process had been restarted to it."""
    ended: float | None = None


class StateSpan(msgspec.Struct, kw_only=True, rename="camel"):
    """A period in which a process or server was ``up``, ``down`` or ``suspended``."""

    state: str
    begun: float
    phase: int | None = None
    ended: float | None = None


class FaultMark(msgspec.Struct, kw_only=True, rename="camel"):
    """A fault: when it began, when it was healed, and when the load was seen to go on."""

    victim: str
    way: str
    phase: int
    rolling: bool
    """Whether a rolling restart was under way."""
    begun: float
    healed: float | None = None
    went_on: float | None = None


class Waited(msgspec.Struct, rename="camel"):
    """A gate that delayed a step: its name, the seconds in all, and its last reason."""

    name: str
    seconds: float
    reason: str


class GateMark(msgspec.Struct, kw_only=True, rename="camel"):
    """A requested step, the gates that it waited for, and each gate's last answer."""

    frm: int = msgspec.field(name="from")
    to: int
    begun: float
    passed: float | None = None
    gates: list[dict[str, Any]] = msgspec.field(default_factory=list)
    waited: list[Waited] = msgspec.field(default_factory=list)


class PlaceMark(msgspec.Struct):
    """A position that a log showed: the partition was settled up to ``offset``."""

    log: str
    partition: int
    offset: str
    at: float


class RehearsalTimeline:
    """The record of one rehearsal, by the monotonic clock that the attempts use too."""

    def __init__(self) -> None:
        self.zero = time.monotonic()
        self.started_at = datetime.now(UTC)
        self.bands: list[Band] = []
        self.tracks: dict[str, list[StateSpan]] = {}
        self.faults: list[FaultMark] = []
        self.gates: list[GateMark] = []
        self.places: list[PlaceMark] = []
        """The positions of the workers' group; one entry for each change that was seen."""
        self._wall = _wall_minus_monotonic()

    @property
    def now(self) -> float:
        """Seconds since the rehearsal began."""
        return round(time.monotonic() - self.zero, 3)

    def clock(self) -> tuple[float, float]:
        """Return the wall clock minus the monotonic clock, and the error of that, in seconds.

        Servers' times are by the wall clock, which may be corrected during the rehearsal. The error
        includes such a correction, and the resolution of the servers' times.
        """
        now = _wall_minus_monotonic()
        return (self._wall + now) / 2, abs(now - self._wall) / 2 + _TICKS

    @property
    def phase(self) -> int:
        """The phase that is under way."""
        return self.bands[-1].phase

    @property
    def rolling(self) -> bool:
        """Whether processes are being restarted to the phase."""
        return self.bands[-1].rolled is None

    def begin(self) -> None:
        """Set the start of the rehearsal to now, after its preparation."""
        self.zero = time.monotonic()
        self.started_at = datetime.now(UTC)
        for spans in self.tracks.values():
            spans[:] = spans[-1:]
            spans[0].begun = 0.0

    def enter(self, phase: int, *, back: bool = False) -> Band:
        """Begin a phase; end the one before."""
        if self.bands:
            self.bands[-1].ended = self.now
        band = Band(phase=phase, back=back, begun=self.now)
        self.bands.append(band)
        return band

    def mark(self, track: str, state: str, phase: int | None = None) -> None:
        """Note a new state of a process or server."""
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
