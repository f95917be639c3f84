"""Compares the clients' history with both logs, and the logs with each other.

Later phases, redrives and other consumers all read the logs, so the rules for a log are stricter
than those for rows: an acknowledged message must be in the log that was primary at that time (in a
sync phase, in both logs); it must stand there before every message that was sent after its
acknowledgement; and a copy must name the record that it copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from lab.harness.anomaly import Anomaly, What
from lab.harness.final import FinalRow
from lab.harness.history import ClientAttempt, ClientHistory, Outcome, RequestKind
from lab.rehearsal.logs import Log, LogEntry
from persistence.fleet.log_choice import FIRST_PAIR, LogPair, choices

__all__ = ["asked_of", "check_logs"]

Logs = Mapping[str, Log]


def asked_of(phase: int | None, pair: LogPair = FIRST_PAIR) -> tuple[str, ...]:
    """Return the logs that must have a message before an ingress in ``phase`` acknowledges it."""
    if phase is None:
        return ()
    choice = choices(pair)[phase]
    shadow = (choice.shadow,) if choice.shadow and choice.mode == "sync" else ()
    return (choice.transport, *shadow)


def check_logs(
    history: ClientHistory, logs: Logs, rows: Sequence[FinalRow], pair: LogPair = FIRST_PAIR
) -> list[Anomaly]:
    """Return the anomalies of the logs; empty if every promise was kept.

    Args:
        history: The clients' requests and the answers.
        logs: The records of both logs, by log name.
        rows: The final rows.
        pair: The logs of the migration.
    """
    first = {name: _first_places(log) for name, log in logs.items()}
    return [
        *_absent(history, logs, first, pair),
        *(found for name in logs for found in _reordered(name, history, first[name], pair)),
        *_other_ids(history, logs, rows),
        *_other_times(history, logs),
        *_bad_copies(logs),
        *_unfounded(logs, rows),
    ]


def _first_places(log: Log) -> dict[str, LogEntry]:
    """Return the first entry of each content. Each content belongs to one key and one body."""
    first: dict[str, LogEntry] = {}
    for entries in log.values():
        for entry in entries:
            if entry.content is not None:
                first.setdefault(entry.content, entry)
    return first


def _appends(history: ClientHistory) -> Iterator[ClientAttempt]:
    """Yield the attempts that appended; a repeat may have found its row instead."""
    return (a for a in history.acknowledged(RequestKind.MESSAGE) if not a.hit)


def _absent(
    history: ClientHistory, logs: Logs, first: Mapping[str, Mapping[str, LogEntry]], pair: LogPair
) -> Iterator[Anomaly]:
    bodies: dict[str, set[str]] = defaultdict(set)
    for sent in history.attempts:
        if sent.kind is RequestKind.MESSAGE:
            bodies[sent.key].add(sent.content)
    raced = {body for of_key in bodies.values() if len(of_key) > 1 for body in of_key}
    ids = {
        name: {e.message_id for entries in log.values() for e in entries if e.content in raced}
        for name, log in logs.items()
    }
    for attempt in _appends(history):
        for name in asked_of(attempt.phase, pair):
            # A log that deduplicates by id keeps the first body of a key, even one without an
            # answer. The other log may have kept another body of this key.
            settled = len(bodies[attempt.key]) > 1 and attempt.message_id in ids.get(name, ())
            if attempt.content not in first.get(name, {}) and not settled:
                yield Anomaly(
                    What.NOT_IN_LOG, attempt.key, f"acknowledged by {attempt.via} on phase "
                    f"{attempt.phase}, and not in {name}"
                )  # fmt: skip


def _other_ids(history: ClientHistory, logs: Logs, rows: Sequence[FinalRow]) -> Iterator[Anomaly]:
    """Find records whose message id differs from that in an answer, a row or another record."""
    keys = _keys(history)
    known = {row.key: row.message_id for row in rows}
    known |= {a.key: a.message_id or "" for a in history.acknowledged()}
    for name, entry in _entries(logs):
        key = keys.get(entry.content or "")
        if key is not None and (was := known.setdefault(key, entry.message_id)) != entry.message_id:
            text = f"elsewhere it is {was}, and {entry.message_id} in {name}"
            yield Anomaly(What.ID_CHANGED, entry.offset, text)


def _other_times(history: ClientHistory, logs: Logs) -> Iterator[Anomaly]:
    """Find answers whose ``acceptedAt`` is that of no record of their key."""
    keys = _keys(history)
    times: dict[str, set[str | None]] = defaultdict(set)
    for _, entry in _entries(logs):
        if (key := keys.get(entry.content or "")) is not None:
            times[key].add(entry.accepted_at)
    for attempt in history.acknowledged():
        stands = times.get(attempt.key, {attempt.accepted_at})
        if attempt.accepted_at not in stands:
            text = f"{attempt.accepted_at} by {attempt.via}; its records have {stands}"
            yield Anomaly(What.TIME_CHANGED, attempt.key, text)


def _keys(history: ClientHistory) -> Mapping[str, str]:
    """Return the key of each content."""
    return {a.content: a.key for a in history.attempts if a.kind is RequestKind.MESSAGE}


def _entries(logs: Logs) -> Iterator[tuple[str, LogEntry]]:
    for name, log in logs.items():
        for entries in log.values():
            for entry in entries:
                yield name, entry


def _reordered(
    name: str, history: ClientHistory, first: Mapping[str, LogEntry], pair: LogPair
) -> Iterator[Anomaly]:
    """Find messages that stand behind a message that was sent after their acknowledgement."""
    sent: dict[str, float] = {}
    acked: dict[str, float] = {}
    conversations: dict[str, dict[str, LogEntry]] = defaultdict(dict)
    for attempt in history.attempts:
        if attempt.kind is not RequestKind.MESSAGE:
            continue
        sent[attempt.content] = min(attempt.sent, sent.get(attempt.content, attempt.sent))
        if attempt.content in first:
            conversations[attempt.conversation][attempt.content] = first[attempt.content]
        appended = attempt.outcome is Outcome.OK and not attempt.hit
        if appended and name in asked_of(attempt.phase, pair):
            was = acked.get(attempt.content, attempt.ended)
            acked[attempt.content] = min(attempt.ended, was)
    for conversation, entries in conversations.items():
        if len(homes := {entry.partition for entry in entries.values()}) > 1:
            text = f"in {name} it stands in the partitions {sorted(homes)}"
            yield Anomaly(What.TWO_HOMES, conversation, text)
            continue  # places in two partitions can't be compared
        latest: tuple[float, str, LogEntry] | None = None
        for content, entry in sorted(entries.items(), key=lambda item: item[1].place):
            ended = acked.get(content)
            if latest is not None and ended is not None and ended < latest[0]:
                yield Anomaly(
                    What.LOG_REORDERED, conversation, f"in {name}, {latest[1]} at "
                    f"{latest[2].offset} was sent {(latest[0] - ended) * 1000:.1f} ms after "
                    f"{content} at {entry.offset} was acknowledged"
                )  # fmt: skip
            if latest is None or sent[content] > latest[0]:
                latest = (sent[content], content, entry)


def _bad_copies(logs: Logs) -> Iterator[Anomaly]:
    by_offset = {name: _by_offset(log) for name, log in logs.items()}
    for name, entry in _entries(logs):
        if entry.mirror_of is None:
            continue
        source, _, offset = entry.mirror_of.partition(":")
        there = entry.partition if entry.mirror_partition is None else entry.mirror_partition
        original = by_offset.get(source, {}).get((there, offset))
        if original is None:
            problem = "no such record"
        elif original.digest != entry.digest:
            problem = f"that is {original.message_id}, or has other bytes"
        else:
            continue
        where = f"{name} {entry.partition}/{entry.offset}"
        yield Anomaly(What.BAD_COPY, where, f"says it is a copy of {entry.mirror_of}: {problem}")


def _unfounded(logs: Logs, rows: Sequence[FinalRow]) -> Iterator[Anomaly]:
    """Find rows whose named record does not exist, or belongs to another message."""
    by_offset = {name: _by_offset(log) for name, log in logs.items()}
    for row in rows:
        if row.transport not in by_offset:
            continue
        entry = by_offset.get(row.transport, {}).get((row.partition, row.offset))
        if entry is None or entry.content != row.content:
            yield Anomaly(
                What.PHANTOM, row.key, f"its row says {row.transport} {row.partition}/"
                f"{row.offset}, where {'no record' if entry is None else 'another'} is"
            )  # fmt: skip


def _by_offset(log: Log) -> dict[tuple[int, str], LogEntry]:
    return {(e.partition, e.offset): e for entries in log.values() for e in entries}
