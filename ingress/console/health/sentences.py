"""The health of all parts in sentences, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from ingress.console.health.database import database_sentences
from ingress.console.health.jobs import stalled_jobs
from ingress.console.health.letters import letter_sentences
from ingress.console.health.logs import log_sentences, other_logs
from ingress.console.health.processes import process_sentences, stray_sentences
from ingress.console.health.refusals import refused_appends, throttled_logs
from ingress.console.health.shadows import missing_sentences, shadow_sentences
from ingress.console.health.wording import span
from ingress.console.views import Database, LogView, ProcessView, Sentence
from persistence.fleet.append_outage import AppendOutage
from persistence.fleet.log_identities import AnotherLog
from persistence.fleet.missing_copies import MissingCopies
from persistence.jobs.job import StalledJob
from persistence.reads.overview import Letters

__all__ = ["Reported", "sentences"]

_ORDER = {"alarm": 0, "warning": 1, "ok": 2, "notice": 3}


class Reported(NamedTuple):
    """Troubles that the processes reported in their heartbeats, and those of further servers.

    ``throttled`` has, by log, the seconds that its quota made processes wait, one value a process.
    ``append_outages`` are the outages of their primaries, one a process. ``strays`` is the number
    of processes with another phase's settings than the migration's. ``another_logs`` has, by name,
    the logs that are others than the name means. ``checked`` are sentences about the payload store
    and the database of reads; ``jobs`` are the stalled ones. ``missing`` are copies that the shadow
    of the present phase was not given.
    """

    throttled: Mapping[str, Sequence[float]] = MappingProxyType({})
    append_outages: Sequence[AppendOutage] = ()
    strays: int = 0
    another_logs: Mapping[str, AnotherLog] = MappingProxyType({})
    checked: Sequence[Sentence] = ()
    jobs: Sequence[StalledJob] = ()
    missing: MissingCopies | None = None


def sentences(
    logs: Sequence[LogView],
    database: Database,
    processes: Sequence[ProcessView] | None,
    letters: Letters | None,
    *,
    reported: Reported,
    now: datetime,
) -> list[Sentence]:
    """Return sentences about the state of all parts, the worst first.

    If nothing is wrong, one sentence says so.

    Args:
        logs: The latest readings of the logs.
        database: The latest state of PostgreSQL.
        processes: The known processes; ``None`` if PostgreSQL can't say.
        letters: The pending dead letters; ``None`` if PostgreSQL can't say.
        reported: The troubles that processes reported.
        now: The time from which ages are counted.
    """
    if database.error:  # no process can write its heartbeat, so the ages of all say nothing
        processes = None
    found = [
        *database_sentences(database),
        *(sentence for log in logs for sentence in log_sentences(log, processes, now)),
        *other_logs(reported.another_logs),
        *shadow_sentences(logs, processes or ()),
        *missing_sentences(reported.missing),
        *refused_appends(logs, reported.append_outages, now),
        *throttled_logs(reported.throttled),
        *reported.checked,
        *process_sentences(processes or (), now, told={log.name for log in logs if log.error}),
        *stray_sentences(reported.strays),
        *stalled_jobs(reported.jobs),
        *letter_sentences(letters, now),
    ]
    if all(sentence.level == "notice" for sentence in found):
        found.append(_calm(logs))
    return sorted(found, key=lambda sentence: _ORDER[sentence.level])


def _calm(logs: Sequence[LogView]) -> Sentence:
    read = next((log for log in logs if "consumed" in log.roles), None)
    if read is None or read.lag is None:
        return Sentence(level="ok", text="No problem is known.")
    if read.lag == 0:
        return Sentence(level="ok", text=f"Everything that {read.name} has is persisted.")
    oldest = max(partition.oldest_age or 0.0 for partition in read.partitions)
    records = "1 record is" if read.lag == 1 else f"{read.lag} records are"
    return Sentence(
        level="ok",
        text=f"All partitions of {read.name} make progress: {records} on the way, the oldest for "
        f"{span(oldest)}.",
    )
