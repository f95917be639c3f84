"""Sentences about a log that can't be used, lost records, has no worker, or falls behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from ingress.console.health.losses import loss_sentence, rescue_sentence
from ingress.console.health.shadows import answers_wait_for
from ingress.console.health.stalled import stalled_partitions, waiting_for
from ingress.console.health.wording import MISSED, REFUSED, named, span
from ingress.console.views import LogView, ProcessView, Sentence
from persistence.fleet.log_identities import AnotherLog
from persistence.fleet.processes import LIVE_SECONDS

__all__ = ["log_sentences", "other_logs"]

_LONG_LAG = 1000
_GROWING = 1.1


def log_sentences(
    log: LogView, processes: Sequence[ProcessView] | None, now: datetime
) -> Iterator[Sentence]:
    """Yield sentences about one log: its error, or its losses, lag and partition owners."""
    for warning in log.primaries:
        yield Sentence(
            level="alarm",
            text=f"{log.name}: {warning}.",
            next="RUNBOOKS.md, 'Redis has two primaries'; `crossfade doctor` checks again.",
            page="partitions",
        )
    if log.error:
        yield _silent(log, processes or ())
        return
    if log.loss:
        yield loss_sentence(log.loss)
    elif log.rescued:
        yield rescue_sentence(log.name, log.rescued)
    if log.altered:
        yield Sentence(
            level="alarm",
            text=f"Somebody altered the settings of {log.name} on its server, or another server "
            f"took over: {'; '.join(log.altered)}. Records may be lost or refused, and a start may "
            "be refused.",
            next="Alter them back (`kafka-configs.sh --alter`, `CONFIG SET`), or set the named "
            "variable of every process.",
            page="partitions",
        )
    if unknown := [partition.partition for partition in log.partitions if partition.lag is None]:
        yield Sentence(
            level="warning",
            text=f"The lag of {named(unknown)} of {log.name} is unknown.",
            next="Somebody removed records that the workers had not read. The lag is known again "
            "when the workers have read past that position.",
            page="partitions",
        )
    if "consumed" in log.roles:
        yield from stalled_partitions(log, processes, now)
        if processes is not None:
            yield from _unowned(log, processes)
        yield from _behind(log)


def other_logs(another_logs: Mapping[str, AnotherLog]) -> Iterator[Sentence]:
    """Yield a sentence for each log whose name means another log than the one that is there."""
    for name, another in another_logs.items():
        if another.everywhere:
            text = (
                f"{name} is another log than before: it was deleted, emptied or made anew, or its "
                "address leads elsewhere. Messages that waited in the one before may have no row."
            )
        else:
            text = (
                f"{name} is another log for {', '.join(another.members)} than for the other "
                "processes. Messages of a conversation may be in two logs, out of order."
            )
        yield Sentence(
            level="alarm",
            text=text,
            next=f"Check the address of {name} in every process. If the log was made anew, run "
            f"`crossfade audit`, then `crossfade migrate forget-log {name} --why ...`.",
            page="partitions",
        )


def _silent(log: LogView, processes: Sequence[ProcessView]) -> Sentence:
    # A follower's wait is not among those of its process.
    if "consumed" in log.roles and (readers := _readers(log, processes)):
        return Sentence(
            level="alarm",
            text=f"The log {log.name} can't be used from here: {log.error}. Processes that run "
            f"read it all the same: {', '.join(readers)}.",
            next="Do what the reason names. Until then this page and commands can't tell more, and "
            "a process that is restarted may not start.",
            page="partitions",
        )
    is_needed = "primary" in log.roles or answers_wait_for(log.name, processes)
    if is_needed:
        effect = REFUSED
    elif "consumed" in log.roles:
        effect = "Messages are accepted; nothing is persisted until it is back."
    else:
        effect = MISSED
    return Sentence(
        level="warning" if log.roles == ["shadow"] and not is_needed else "alarm",
        text=f"The log {log.name} can't be used: {log.error}. {effect}",
        next=f"Start the {log.name} server again, or repair the network to it, unless the reason "
        "names another remedy. Processes reconnect by themselves.",
        page="partitions",
    )


def _readers(log: LogView, processes: Sequence[ProcessView]) -> list[str]:
    """Return the live processes that own partitions of ``log`` and do not wait for it."""
    return sorted(
        process.member
        for process in processes
        if process.live
        and process.owned.get(log.name)
        and all(pause.dependency != log.name for pause in process.paused)
    )


def _unowned(log: LogView, processes: Sequence[ProcessView]) -> Iterator[Sentence]:
    live = {process.member for process in processes if process.live}
    free = [
        partition
        for partition in log.partitions
        if partition.owner not in live and not partition.stalled_seconds
    ]
    if free:
        everyone = len(free) == len(log.partitions)
        whom = "any partition" if everyone else named([partition.partition for partition in free])
        yield Sentence(
            level="warning",
            text=f"No live worker owns {whom} of {log.name}: new records wait.",
            next="They go on by themselves once the log lets them."
            if waiting_for(log.name, processes)
            else "Start a worker (`crossfade worker`). After a worker dies, another one takes over "
            f"within {LIVE_SECONDS:.0f} s.",
            page="partitions",
        )


def _behind(log: LogView) -> Iterator[Sentence]:
    if log.lag is None or log.lag < _LONG_LAG or log.in_rate is None or log.out_rate is None:
        return
    if log.in_rate > log.out_rate * _GROWING:
        yield Sentence(
            level="warning",
            text=f"{log.name} falls behind: {log.in_rate:.0f} records a second come in and "
            f"{log.out_rate:.0f} are persisted; {log.lag} wait.",
            next="Add workers (up to one process for each partition), or look at what PostgreSQL "
            "waits for.",
            page="partitions",
        )
    elif log.out_rate > log.in_rate:
        eta = log.lag / (log.out_rate - log.in_rate)
        yield Sentence(
            level="notice",
            text=f"{log.name} catches up: {log.lag} records wait, and at this rate all are "
            f"persisted in {span(eta)}.",
            page="partitions",
        )
