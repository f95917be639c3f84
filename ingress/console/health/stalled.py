"""Sentences about partitions that make no progress, with the cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from ingress.console.health.wording import ago, dependency_name, named, span
from ingress.console.views import LogView, PartitionView, ProcessView, Sentence

__all__ = ["stalled_partitions", "waiting_for"]

_STALLED = 5.0
"""Seconds. A partition is stalled if records wait this long while the position does not move. A
healthy worker shows its position once a second."""


def stalled_partitions(
    log: LogView, processes: Sequence[ProcessView] | None, now: datetime
) -> Iterator[Sentence]:
    """Yield a sentence for each cause, with the partitions that make no progress for it."""
    causes: dict[tuple[str, str], list[PartitionView]] = defaultdict(list)
    for partition in log.partitions:
        if partition.stalled_seconds is not None and partition.stalled_seconds >= _STALLED:
            causes[_cause(partition, log.name, processes, now)].append(partition)
    for (why, remedy), stuck in causes.items():
        waiting = sum(partition.lag or 0 for partition in stuck)
        longest = max(partition.stalled_seconds or 0.0 for partition in stuck)
        verb = "is" if len(stuck) == 1 else "are"
        records = "1 record waits" if waiting == 1 else f"{waiting} records wait"
        yield Sentence(
            level="alarm",
            text=f"{named([each.partition for each in stuck]).capitalize()} of {log.name} {verb} "
            f"not moving: {why}. {records}, for {span(longest)} now.",
            next=remedy,
            page="partitions",
        )


def _cause(
    partition: PartitionView, log: str, processes: Sequence[ProcessView] | None, now: datetime
) -> tuple[str, str]:
    if processes is None:
        return (
            "PostgreSQL takes no rows",
            "Bring PostgreSQL back; the workers go on by themselves.",
        )
    if partition.owner is None:
        return _unowned(log, processes)
    owner = next((p for p in processes if p.member == partition.owner), None)
    if owner is None:
        return (
            f"its worker {partition.owner} is not among the processes that report",
            "Start a worker (`crossfade worker`), which takes the partition.",
        )
    if wait := _wait(owner, f"partition {partition.partition} of {log}", now):
        return wait
    if not owner.live:
        return (
            f"its worker {partition.owner} has not been heard of for {span(owner.silent_seconds)}",
            "Another worker takes the partition: start one (`crossfade worker`) if none runs.",
        )
    return (
        f"its worker {partition.owner} is alive and reports no dependency that it waits for",
        f"Look at the log of process {owner.pid} on {owner.host}, and at locks in PostgreSQL.",
    )


def _unowned(log: str, processes: Sequence[ProcessView]) -> tuple[str, str]:
    if why := waiting_for(log, processes):
        return (
            f"no worker owns it, as {why}",
            "Do what the text names; the workers go on by themselves.",
        )
    return (
        "no worker owns it",
        "Start a worker (`crossfade worker`), or set ENABLE_STREAM_CONSUMERS=true.",
    )


def waiting_for(log: str, processes: Sequence[ProcessView]) -> str | None:
    """Return which live process waits for ``log``, and why, as text; ``None`` if none does."""
    for process in processes:
        for pause in process.paused if process.live else ():
            if pause.dependency == log:
                return f"{process.member} waits for {log}: {pause.error}"
    return None


def _wait(owner: ProcessView, place: str, now: datetime) -> tuple[str, str] | None:
    """Return why the owner of partition ``place`` waits, as it reports itself, and the remedy."""
    for pause in owner.paused:
        if pause.dependency == place:
            return f"it has been blocked for {ago(pause.since, now)}", f"{pause.error}."
        # Skips the pauses of other partitions.
        if not pause.dependency.startswith("partition "):
            name = dependency_name(pause.dependency)
            return (
                f"its worker lost {name} {ago(pause.since, now)} ago ({pause.error})",
                f"Bring {name} back where {owner.host} can reach it; the worker goes on by itself.",
            )
    return None
