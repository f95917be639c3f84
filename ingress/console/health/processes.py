"""Sentences about processes: silent ones, waiting ones, and ones with another phase's settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from ingress.console.health.wording import ago, dependency_name, span
from ingress.console.views import ProcessView, Sentence
from persistence.database.outage import Paused

__all__ = ["process_sentences", "stray_sentences"]


def process_sentences(
    processes: Sequence[ProcessView], now: datetime, *, told: Collection[str]
) -> Iterator[Sentence]:
    """Yield sentences about silent processes, and about the dependencies that others wait for.

    A dependency in ``told`` has a sentence of its own.
    """
    waits: dict[tuple[str, str], list[tuple[ProcessView, Paused]]] = defaultdict(list)
    if len(processes) > 1 and not any(process.live for process in processes):
        silent = min(process.silent_seconds for process in processes)
        yield Sentence(
            level="alarm",
            text=f"None of {len(processes)} processes has been heard of for {span(silent)}. "
            "PostgreSQL takes none of their writes (its disk is full, or it is read-only), or all "
            "of them have ended.",
            next="Look at PostgreSQL's disk and log first: messages accepted meanwhile wait in "
            "the log, and live processes go on by themselves.",
            page="migration",
        )
        return
    for process in processes:
        if not process.live:
            yield Sentence(
                level="warning",
                text=f"The process {process.member} has not been heard of for "
                f"{span(process.silent_seconds)}: it died, or is cut off from PostgreSQL and works "
                "on.",
                next="If it is dead for good, take it off the list with "
                f"`crossfade migrate forget {process.member} --why ...`.",
                page="migration",
            )
        elif untold := [paused for paused in process.paused if paused.dependency not in told]:
            waits[untold[0].dependency, untold[0].error].append((process, untold[0]))
    for (dependency, error), those in waits.items():
        since = min(paused.since for _, paused in those)
        who = f"{len(those)} processes wait" if len(those) > 1 else f"{those[0][0].member} waits"
        yield Sentence(
            level="warning",
            text=f"{who} for {dependency_name(dependency)}, for {ago(since, now)} now: {error}.",
            next="Nothing is lost or given up meanwhile. `crossfade doctor` says what is wrong "
            "there; once that works again, processes go on by themselves.",
        )


def stray_sentences(count: int) -> Iterator[Sentence]:
    """Yield a sentence if processes have the settings of another phase than the migration's."""
    if count:
        who = "1 process has" if count == 1 else f"{count} processes have"
        yield Sentence(
            level="warning",
            text=f"{who} the settings of another phase than the migration's, so no gate was "
            "judged: messages of a conversation may be stored out of order. None is lost or "
            "doubled.",
            next="`crossfade migrate status` shows which, and the settings to restart with.",
            page="migration",
        )
