"""The states that rows are in: one enumeration for what writes them and for what shows them.

The columns are text. A later version of the service may write a state that this one does not know,
so what shows a state shows any text.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["UNFINISHED", "LetterState", "RunState"]


class LetterState(StrEnum):
    """Of a dead letter."""

    PENDING = "pending"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class RunState(StrEnum):
    """Of a redrive or a backfill.

    ``INTERRUPTED``: its process was stopped. ``FAILED``: it met an error that is not an outage,
    which is logged. Both can be taken up again.
    """

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


UNFINISHED = (RunState.RUNNING, RunState.INTERRUPTED, RunState.FAILED)
"""The states of a run that has work left: it can be resumed, and cancelled."""
