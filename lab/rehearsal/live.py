"""The progress of a rehearsal, as the bar shows it."""

from __future__ import annotations

from compose.terminal import Part
from lab.harness.run_progress import Standing
from lab.rehearsal.rehearse import Rehearsal

__all__ = ["standing"]


def standing(rehearsal: Rehearsal) -> Standing:
    """Return the number of completed phases, and the counts of requests and faults."""
    return Standing(max(0, len(rehearsal.timeline.bands) - 1), _counts(rehearsal))


def _counts(rehearsal: Rehearsal) -> tuple[Part, ...]:
    load, faults = rehearsal.load, len(rehearsal.timeline.faults)
    if load is None:
        return ()
    return (
        (f"{load.answered} ok", "green"),
        " ",
        (f"{load.unanswered} failed", "red") if load.unanswered else "0 failed",
        f" {faults} faults" if faults else "",
    )
