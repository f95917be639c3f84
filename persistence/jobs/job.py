"""A long job as it is asked for, as it runs, and as it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import msgspec

from persistence.json_types import Id, Time, known
from persistence.tables.states import JobKind, JobState

__all__ = ["Job", "JobProgress", "NewJob"]


class JobProgress(msgspec.Struct, frozen=True):
    """How far a job is: letters, records or findings, and ``counts`` of the kind's own."""

    total: int = 0
    done: int = 0
    failed: int = 0
    counts: Mapping[str, int] = {}


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to begin.

    Args:
        kind: What it does.
        request: The job's parameters, as its kind defines them. Written as JSON.
        by: Name of the caller.
        rate: At most so many letters or records a second; 0 for no limit.
        total: How many there are to do, as far as is known.
        alone: Names and values of the request. One job at a time runs that has them, and an
            unfinished one of the same request is resumed. ``None`` for jobs that may overlap.
        resume: Id of the unfinished job to resume, where it is not the latest of the same request.
    """

    kind: JobKind
    request: msgspec.Struct
    by: str
    rate: int = 0
    total: int = 0
    alone: Mapping[str, str] | None = None
    resume: UUID | None = None


class Job(msgspec.Struct, frozen=True, rename="camel"):
    """A long job: of a redrive it counts letters, of a backfill records, of a repair findings.

    ``request`` is what was asked for, in the words of the kind; ``counts`` are further ones of the
    kind. ``rate`` is the most a second; 0 is no limit. ``stalled``: it should be running, and its
    process is gone or has not been heard of for a minute. ``resumable``: it has work left, and
    nothing is at work on it. ``failed`` ones stay undone; ``error`` is the last one's, or what the
    job waits for, or what ended it.
    """

    id: Id
    kind: Annotated[str, known(*JobKind)]
    state: Annotated[str, known(*JobState)]
    stalled: bool
    resumable: bool
    request: dict[str, Any]
    rate: int
    total: int
    done: int
    failed: int
    counts: dict[str, Any]
    error: str | None
    started_by: str
    started_at: Time
    finished_at: Time | None
