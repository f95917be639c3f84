"""A long job: its order, its run, and the view of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import msgspec

from persistence.json_types import Id, Time, known
from persistence.tables.states import JobKind, JobState

__all__ = ["Job", "JobProgress", "NewJob", "StalledJob"]


class JobProgress(msgspec.Struct, frozen=True):
    """The progress of a job: letters, records or findings, and ``counts`` of its kind."""

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
        alone: Names and values of the request. Only one job with the same ones runs at a time, and
            an unfinished job of the same request is resumed. ``None`` for jobs that may overlap.
        resume: Id of the unfinished job to resume, if it is not the latest of the same request.
        id: Its id, if the caller has chosen one; otherwise a new one.
    """

    kind: JobKind
    request: msgspec.Struct
    by: str
    rate: int = 0
    total: int = 0
    alone: Mapping[str, str] | None = None
    resume: UUID | None = None
    id: UUID | None = None


class StalledJob(msgspec.Struct, frozen=True):
    """A job that should be running, and that no process works on."""

    id: Id
    kind: str
    started_by: str
    done: int
    total: int
    silent_seconds: float
    """Seconds since its process was heard of."""


class Job(msgspec.Struct, frozen=True, rename="camel"):
    """A long job. It counts letters (redrive), records (backfill) or findings (repair).

    ``request`` has the job's parameters, as its kind defines them; ``counts`` are further counts of
    the kind. ``rate`` is the limit a second; 0 is no limit. ``stalled``: it should be running, and
    its process is gone or has been silent for a minute. ``resumable``: it has work left, and no
    process works on it. ``failed`` items stay undone. ``error`` is the last item's error, or the
    outage that the job waits for, or the error that ended it.
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
