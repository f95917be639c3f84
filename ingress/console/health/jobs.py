"""Sentences about long jobs that should run, and that no process works on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingress.console.health.wording import span
from ingress.console.views import Sentence
from persistence.jobs.job import StalledJob

__all__ = ["stalled_jobs"]

_QUIET = 15.0
"""Seconds. A process that lost PostgreSQL takes its job up again within them."""


def stalled_jobs(jobs: Sequence[StalledJob]) -> Iterator[Sentence]:
    """Yield a sentence for each stalled job."""
    for job in jobs:
        if job.silent_seconds < _QUIET:
            continue
        is_redrive = job.kind == "redrive"
        again = (
            "Resume it on the page of dead letters, or with "
            f"`crossfade dlq redrive --resume {job.id}`"
            if is_redrive
            else "Repeat the command that began it, which goes on where it ended"
        )
        yield Sentence(
            level="warning",
            text=f"The {job.kind} of {job.started_by} is stalled at {job.done} of {job.total}: its "
            f"process has not been heard of for {span(job.silent_seconds)}.",
            next=f"{again}; or give it up: `crossfade jobs cancel {job.id}`.",
            page="dead-letters" if is_redrive else None,
        )
