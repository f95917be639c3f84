"""Health in sentences: the state, its cause, and the remedy. Figures in, words out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from ingress.console.views import Database, LogView, PartitionView, ProcessView, Sentence
from persistence.fleet.append_outage import AppendOutage
from persistence.reads.overview import Letters

__all__ = ["ago", "sentences", "span"]

_STALLED = 5.0
"""Seconds without an acknowledgement while records wait, from which on a partition is not moving.
A worker that is well acknowledges with every statement."""
_LONG_LAG = 1000
_OPERATOR = "an operator"
"""The dependency of a partition whose rows are lost (``persistence.worker.recovery.positions``)."""
_UNTRIED = 60.0
"""Seconds after a refused append from which on, without another one, it proves nothing."""
_GROWING = 1.1
_REFUSED = "POSTs are answered 503, and clients retry with the same key."
_MISSED = "It is the shadow: what it misses is counted, and can be backfilled."
_ORDER = {"alarm": 0, "warning": 1, "ok": 2, "notice": 3}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_ARCHIVE_FAILS = 2 * _HOUR
"""From which age on a file of old rows was tried anew, and failed again."""


def sentences(
    logs: Sequence[LogView],
    database: Database,
    processes: Sequence[ProcessView] | None,
    letters: Letters | None,
    *,
    throttled: Mapping[str, Sequence[float]] = MappingProxyType({}),
    append_outages: Sequence[AppendOutage] = (),
    strays: int = 0,
    now: datetime,
) -> list[Sentence]:
    """Word the state of everything, the worst first; one calm sentence where all is well.

    Args:
        logs: as they were last seen.
        database: as it was last asked.
        processes: those that are known; ``None`` where they can't be told.
        letters: dead letters that wait; ``None`` where they can't be told.
        strays: number of processes with the settings of a phase that the migration is not at.
        append_outages: those that processes have, one for each.
        throttled: by log, the seconds that its quota made processes wait, one for each.
        now: for the ages of things.
    """
    found = [
        *_database(database),
        *(sentence for log in logs for sentence in _log(log, processes, now)),
        *_shadows(logs, processes or ()),
        *_refusing(logs, append_outages, now),
        *_throttled(throttled),
        *_processes(processes or (), now),
        *_strays(strays),
        *_letters(letters, now),
    ]
    if all(sentence.level == "notice" for sentence in found):
        found.append(_calm(logs))
    return sorted(found, key=lambda sentence: _ORDER[sentence.level])


def span(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} days"


def ago(moment: str, now: datetime) -> str:
    """Word how long before ``now`` an RFC 3339 time was, or that it can't be read."""
    age = _age(moment, now)
    return "an unknown time" if age is None else span(age)


def _age(moment: str, now: datetime) -> float | None:
    try:
        return max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):  # no time, or one without its offset
        return None


def _database(database: Database) -> Iterator[Sentence]:
    if not database.up:
        error = (database.error or "").removeprefix("PostgreSQL: ")
        yield Sentence(
            level="alarm",
            text=f"PostgreSQL can't be used: {error}. Messages are accepted all the same and wait "
            "in the log; nothing is persisted.",
            next="Start PostgreSQL again, or correct DATABASE_URL; workers go on by themselves. "
            "WorkersPaused in RUNBOOKS.md has more.",
        )
    if database.archive_waits > _ARCHIVE_FAILS:
        yield Sentence(
            level="warning",
            text="A file of old rows was begun and is not finished for "
            f"{span(database.archive_waits)}: nothing is lost, and the table grows.",
            next="Run `crossfade rows archive`, which says what ROWS_ARCHIVE_URL lacks.",
        )


def _log(
    log: LogView, processes: Sequence[ProcessView] | None, now: datetime
) -> Iterator[Sentence]:
    if log.error:
        yield _silent(log, answers_wait=_answers_wait(log.name, processes or ()))
        return
    if lost := sum(partition.lost for partition in log.partitions):
        which = "1 record left" if lost == 1 else f"{lost} records left"
        yield Sentence(
            level="alarm",
            text=f"{which} {log.name} unread, or went with the end of its log: trimmed, deleted, "
            "or lost by the server (its disk, a failover, a restored backup).",
            next="Run `crossfade audit` to see which messages have no row.",
            page="partitions",
        )
    if log.rescued:
        records = "1 record" if log.rescued == 1 else f"{log.rescued} records"
        yield Sentence(
            level="notice",
            text=f"A failover of {log.name} lost {records} in the last day. The processes that had "
            "them appended them again.",
            next="Set REDIS_WAIT_REPLICAS to the number of replicas, and a failover loses none; "
            "`crossfade audit` compares what is in the log with the rows.",
            page="partitions",
        )
    if unknown := [partition.partition for partition in log.partitions if partition.lag is None]:
        yield Sentence(
            level="warning",
            text=f"The lag of {_named(unknown)} of {log.name} can't be told.",
            next="Records ahead of the workers were removed by hand; it is known again when they "
            "have read past them.",
            page="partitions",
        )
    if "consumed" in log.roles:
        yield from _stalled(log, processes, now)
        yield from _unowned(log)
        yield from _behind(log)


def _refusing(
    logs: Sequence[LogView], outages: Sequence[AppendOutage], now: datetime
) -> Iterator[Sentence]:
    """Tell of primaries that answer, and take no appends: full, read-only, without a right."""
    silent = {log.name for log in logs if log.error}
    refusals: dict[str, list[AppendOutage]] = defaultdict(list)
    for outage in outages:
        if outage.log not in silent:
            refusals[outage.log].append(outage)
    for name, those in refusals.items():
        latest = max(those, key=lambda outage: outage.last)
        whose = "1 process" if len(those) == 1 else f"{len(those)} processes"
        is_tried = (_age(latest.last, now) or 0.0) < _UNTRIED
        if is_tried:
            since = ago(min(outage.since for outage in those), now)
            effect = _REFUSED
            text = f"{name} refuses messages of {whose}, for {since} now: {latest.error}."
        else:
            effect = "None came since, so whether it takes them now is not known."
            text = (
                f"{name} refused the last message of {whose}, {ago(latest.last, now)} ago: "
                f"{latest.error}."
            )
        yield Sentence(
            level="alarm" if is_tried else "warning",
            text=f"{text} {effect}",
            next="`crossfade doctor` says what is wrong there. Mend it, and processes go on by "
            "themselves.",
            page="partitions",
        )


def _throttled(waits: Mapping[str, Sequence[float]]) -> Iterator[Sentence]:
    for name, seconds in sorted(waits.items()):
        those = "1 process" if len(seconds) == 1 else f"{len(seconds)} processes"
        yield Sentence(
            level="warning",
            text=f"{name} slows down {those}, as a quota is used up: the last wait was "
            f"{span(max(seconds))}. POSTs that can't wait so long are answered 503.",
            next="Raise producer_byte_rate of our user or client id at the brokers, or send less.",
        )


def _answers_wait(name: str, processes: Sequence[ProcessView]) -> bool:
    """Return whether POSTs are answered only once this log, as a shadow, has them."""
    shadows = [process.shadow for process in processes if process.live and process.shadow]
    return any(shadow.get("name") == name and shadow.get("mode") == "sync" for shadow in shadows)


def _shadows(logs: Sequence[LogView], processes: Sequence[ProcessView]) -> Iterator[Sentence]:
    """Tell of shadows that answer, and take no writes: full, read-only, without a right."""
    silent = {log.name for log in logs if log.error}
    refusals: dict[str, list[str]] = defaultdict(list)
    for process in processes:
        shadow = process.shadow if process.live else None
        if shadow and shadow.get("breaker") != "closed" and shadow.get("name") not in silent:
            refusals[str(shadow.get("name"))].append(str(shadow.get("error")))
    for name, errors in refusals.items():
        answers_wait = _answers_wait(name, processes)
        those = "1 process" if len(errors) == 1 else f"{len(errors)} processes"
        yield Sentence(
            level="alarm" if answers_wait else "warning",
            text=f"The shadow {name} takes no copies of {those}: {errors[0]}. "
            f"{_REFUSED if answers_wait else _MISSED}",
            next="Mend the cause, and processes go on by themselves; or take a step back: "
            "`crossfade migrate rollback --why ...`.",
            page="migration",
        )


def _silent(log: LogView, *, answers_wait: bool) -> Sentence:
    is_needed = "primary" in log.roles or answers_wait
    if is_needed:
        effect = _REFUSED
    elif "consumed" in log.roles:
        effect = "Messages are accepted; nothing is persisted until it is back."
    else:
        effect = _MISSED
    return Sentence(
        level="warning" if log.roles == ["shadow"] and not is_needed else "alarm",
        text=f"The log {log.name} does not answer: {log.error}. {effect}",
        next=f"Start the {log.name} server again, or mend the network to it; processes reconnect "
        "by themselves.",
        page="partitions",
    )


def _stalled(
    log: LogView, processes: Sequence[ProcessView] | None, now: datetime
) -> Iterator[Sentence]:
    """List the partitions that make no progress, grouped by cause."""
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
            text=f"{_named([each.partition for each in stuck]).capitalize()} of {log.name} {verb} "
            f"not moving: {why}. {records}, for {span(longest)} now.",
            next=remedy,
            page="partitions",
        )


def _cause(
    partition: PartitionView, log: str, processes: Sequence[ProcessView] | None, now: datetime
) -> tuple[str, str]:
    if partition.owner is None:
        return (
            "no worker owns it",
            "Start a worker (`crossfade worker`), or set ENABLE_STREAM_CONSUMERS=true.",
        )
    if processes is None:
        return (
            "PostgreSQL does not answer",
            "Bring PostgreSQL back; the workers go on by themselves.",
        )
    owner = next((p for p in processes if p.member == partition.owner), None)
    if owner is None:
        return (
            f"its worker {partition.owner} is not among the processes that report",
            "Look at that worker's log; when its lease is over another one takes the partition.",
        )
    if wait := _wait(owner, f"partition {partition.partition} of {log}", now):
        return wait
    if not owner.live:
        return (
            f"its worker {partition.owner} has not been heard of for {span(owner.silent_seconds)}",
            "If that process is dead or suspended, another takes over within STREAM_LEASE_MS.",
        )
    return (
        f"its worker {partition.owner} is alive and waits for nothing it knows of",
        f"Look at the log of process {owner.pid} on {owner.host}, and at locks in PostgreSQL.",
    )


def _wait(owner: ProcessView, place: str, now: datetime) -> tuple[str, str] | None:
    """Return why the owner of ``place`` waits, by its own account, and the remedy."""
    for pause in owner.paused:
        if pause.dependency == place:
            return f"it has been blocked for {ago(pause.since, now)}", f"{pause.error}."
        if not pause.dependency.startswith("partition "):  # another one's, that is
            name = _dependency(pause.dependency)
            return (
                f"its worker lost {name} {ago(pause.since, now)} ago ({pause.error})",
                f"Bring {name} back where {owner.host} can reach it; the worker goes on by itself.",
            )
    return None


def _unowned(log: LogView) -> Iterator[Sentence]:
    free = [
        partition
        for partition in log.partitions
        if partition.owner is None and not partition.stalled_seconds
    ]
    if free:
        everyone = len(free) == len(log.partitions)
        whom = "any partition" if everyone else _named([partition.partition for partition in free])
        yield Sentence(
            level="warning",
            text=f"No worker owns {whom} of {log.name}: what comes in waits.",
            next="Start a worker (`crossfade worker`). After a worker's death this lasts as long "
            "as its lease, STREAM_LEASE_MS.",
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
            text=f"{log.name} catches up: {log.lag} records wait, and at this rate none in "
            f"{span(eta)}.",
            page="partitions",
        )


def _processes(processes: Sequence[ProcessView], now: datetime) -> Iterator[Sentence]:
    waits: dict[tuple[str, str], list[ProcessView]] = defaultdict(list)
    if len(processes) > 1 and not any(process.live for process in processes):
        silent = min(process.silent_seconds for process in processes)
        yield Sentence(
            level="alarm",
            text=f"None of {len(processes)} processes has been heard of for {span(silent)}. "
            "PostgreSQL takes none of their writes (its disk is full, or it is read-only), or all "
            "of them have ended.",
            next="Look at PostgreSQL's disk and log first: what is accepted meanwhile waits in the "
            "log, and processes that live go on by themselves.",
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
        elif process.paused:
            paused = process.paused[0]
            waits[paused.dependency, paused.error].append(process)
    for (dependency, error), those in waits.items():
        since = min(process.paused[0].since for process in those)
        who = f"{len(those)} processes wait" if len(those) > 1 else f"{those[0].member} waits"
        if dependency.startswith(_OPERATOR):
            yield Sentence(
                level="alarm",
                text=f"{who} for {dependency}, for {ago(since, now)} now: {error}.",
                next="What is accepted waits in the log. See RowsLost in RUNBOOKS.md before you "
                "accept the loss.",
            )
            continue
        yield Sentence(
            level="warning",
            text=f"{who} for {_dependency(dependency)}, for {ago(since, now)} now: {error}.",
            next="Nothing is lost or given up meanwhile. `crossfade doctor` says what is wrong "
            "there; once it takes the work, it goes on by itself.",
        )


def _strays(count: int) -> Iterator[Sentence]:
    if count:
        who = "1 process has" if count == 1 else f"{count} processes have"
        yield Sentence(
            level="warning",
            text=f"{who} the settings of another phase than the migration stands at, so no gate "
            "was asked: messages of a conversation may be stored out of order. None is lost or "
            "doubled.",
            next="`crossfade migrate status` shows which, and the settings to restart with.",
            page="migration",
        )


def _letters(letters: Letters | None, now: datetime) -> Iterator[Sentence]:
    if letters is None or not letters.pending:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in letters.by_reason.items())
    those = "letter waits" if letters.pending == 1 else "letters wait"
    age = f", the oldest for {ago(letters.oldest, now)}" if letters.oldest else ""
    yield Sentence(
        level="notice",
        text=f"{letters.pending} dead {those} for a decision ({reasons}){age}.",
        next="Read why, mend the cause, then redrive them, or discard them with a reason.",
        page="dead-letters",
    )


def _calm(logs: Sequence[LogView]) -> Sentence:
    read = next((log for log in logs if "consumed" in log.roles), None)
    if read is None or read.lag is None:
        return Sentence(level="ok", text="Nothing that is known is wrong.")
    if read.lag == 0:
        return Sentence(level="ok", text=f"Everything that {read.name} has is persisted.")
    oldest = max(partition.oldest_age or 0.0 for partition in read.partitions)
    records = "1 record is" if read.lag == 1 else f"{read.lag} records are"
    return Sentence(
        level="ok",
        text=f"All partitions of {read.name} move: {records} on the way, the oldest for "
        f"{span(oldest)}.",
    )


def _dependency(name: str) -> str:
    return "PostgreSQL" if name == "postgresql" else name


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"partition {numbers[0]}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"partitions {', '.join(texts)}"
