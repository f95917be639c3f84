"""The progress of a soak, as the bar shows it."""

from __future__ import annotations

from compose.terminal import Part
from lab.harness.run_progress import Standing
from lab.soak.soak import Soak

__all__ = ["standing"]


def standing(soak: Soak) -> Standing:
    """Return the seconds with load so far, and the counts of requests, faults and violations."""
    return Standing(soak.timeline.now if soak.load else 0.0, _counts(soak))


def _counts(soak: Soak) -> tuple[Part, ...]:
    load = soak.load
    if load is None:
        return ()
    faults = soak.faults + len(soak.timeline.faults)
    return (
        (f"{load.answered:,} ok", "green"),
        f" {load.unanswered:,} failed {faults:,} faults ",
        (f"{soak.broken} wrong", "red") if soak.broken else "0 wrong",
    )
