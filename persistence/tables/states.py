"""The states of rows, for the code that writes them and the code that shows them.

The columns are text. A later version of the service may write a state that this one does not know,
so code that shows a state shows any text.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["UNFINISHED", "JobKind", "JobState", "LetterState"]


class LetterState(StrEnum):
    """State of a dead letter."""

    PENDING = "pending"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class JobKind(StrEnum):
    """Kind of a long job."""

    REDRIVE = "redrive"
    BACKFILL = "backfill"
    REPAIR = "repair"
    ERASURE = "erasure"


class JobState(StrEnum):
    """State of a long job.

    ``INTERRUPTED``: its process was stopped. ``FAILED``: it met an error that is not an outage,
    which is logged. Both can be resumed.
    """

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


UNFINISHED = (JobState.RUNNING, JobState.INTERRUPTED, JobState.FAILED)
"""The states of a job that has work left: it can be resumed, and cancelled."""
