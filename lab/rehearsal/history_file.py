"""Writes a history to a file for other checkers: one JSON object per line.

``docs/history_format.md`` describes the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from lab.harness.content_name import digest_of
from lab.harness.final import Final, FinalRow, Letter
from lab.harness.history import ClientAttempt, ClientHistory, RequestKind
from lab.rehearsal.logs import Log, LogEntry, content_of
from lab.rehearsal.timeline import RehearsalTimeline
from lab.specification.history_lines import HISTORY_VERSION
from persistence.fleet.log_choice import FIRST_PAIR, LogPair

__all__ = ["write_history"]

_Line = dict[str, object]


def write_history(
    path: Path,
    history: ClientHistory,
    final: Final,
    logs: Mapping[str, Log] | None = None,
    pair: LogPair = FIRST_PAIR,
    timeline: RehearsalTimeline | None = None,
) -> None:
    """Write everything that a checker compares.

    Args:
        path: The file.
        history: The clients' requests and the answers.
        final: The final rows, receipts, dead letters and pages.
        logs: The records of each log; none if only the rows are to be checked.
        pair: The logs of the migration.
        timeline: The phases and processes of the rehearsal; ``None`` without a rehearsal.
    """
    encode = msgspec.json.Encoder().encode
    count = 0
    with path.open("wb") as file:
        for line in _lines(history, final, logs or {}, pair, timeline):
            file.write(encode(line) + b"\n")
            count += 1
        file.write(encode({"type": "end", "lines": count + 1}) + b"\n")


def _lines(
    history: ClientHistory, final: Final, logs: Mapping[str, Log], pair: LogPair,
    timeline: RehearsalTimeline | None,
) -> Iterator[_Line]:  # fmt: skip
    lead, error = timeline.clock() if timeline else (0.0, 0.0)
    yield {
        "type": "history", "version": HISTORY_VERSION, "old": pair.old, "new": pair.new,
        "logs": list(logs), "clockError": error,
    }  # fmt: skip
    yield from map(_attempt, history.attempts)
    if timeline:
        yield from _walk(timeline)
    for message_id, reason in history.planted.items():
        yield {"type": "planted", "messageId": message_id, "reason": reason}
    for row in final.rows:
        yield _row(row, lead)
    for key in final.receipts:
        yield {"type": "receipt", "key": key}
    yield from map(_letter, final.letters)
    for conversation, seen in final.pages.items():
        yield {"type": "page", "conversation": conversation, "messageIds": list(seen)}
    for name, log in logs.items():
        for entries in log.values():
            for entry in entries:
                yield _record(name, entry, lead)


def _walk(timeline: RehearsalTimeline) -> Iterator[_Line]:
    """Yield the lines of processes, steps and the group's places, by the attempts' clock."""

    def moment(at: float | None) -> float | None:
        return None if at is None else timeline.zero + at

    for name, spans in timeline.tracks.items():
        for span in spans:
            yield {
                "type": "process", "name": name, "state": span.state, "phase": span.phase,
                "begun": moment(span.begun), "ended": moment(span.ended),
            }  # fmt: skip
    first, *others = timeline.bands
    yield {"type": "step", "from": None, "to": first.phase, "begun": moment(first.begun)}
    for mark, band in zip(timeline.gates, others, strict=False):
        yield {
            "type": "step", "from": mark.frm, "to": mark.to, "asked": moment(mark.begun),
            "begun": moment(band.begun), "rolled": moment(band.rolled),
        }  # fmt: skip
    if len(timeline.gates) > len(others):  # the last step was refused
        mark = timeline.gates[-1]
        yield {"type": "step", "from": mark.frm, "to": mark.to, "asked": moment(mark.begun)}
    for place in timeline.places:
        yield {
            "type": "place", "log": place.log, "partition": place.partition,
            "offset": place.offset, "at": moment(place.at),
        }  # fmt: skip


def _attempt(attempt: ClientAttempt) -> _Line:
    line: _Line = {
        "type": "attempt",
        "client": attempt.client,
        "kind": attempt.kind,
        "conversation": attempt.conversation,
        "key": attempt.key,
        "sent": attempt.sent,
        "ended": attempt.ended,  # JSON has no infinity: null is "never"
        "outcome": attempt.outcome,
        "via": attempt.via,
    }
    if attempt.kind is RequestKind.MESSAGE:
        line["digest"] = _digest(attempt.content)
    told = {
        "phase": attempt.phase,
        "status": attempt.status,
        "messageId": attempt.message_id,
        "acceptedAt": attempt.accepted_at if attempt.kind is RequestKind.MESSAGE else None,
        "hit": attempt.hit,
        "retryAfter": attempt.retry_after,
        "detail": attempt.detail or None,
    }
    return line | {name: value for name, value in told.items() if value is not None}


def _row(row: FinalRow, lead: float) -> _Line:
    return {
        "type": "row",
        "seq": row.seq,
        "messageId": row.message_id,
        "key": row.key,
        "conversation": row.conversation,
        "digest": _digest(row.content),
        "log": row.transport,
        "partition": row.partition,
        "offset": row.offset,
        "at": row.inserted_at - lead,
    }


def _letter(letter: Letter) -> _Line:
    line: _Line = {
        "type": "deadLetter", "messageId": letter.message_id, "reason": letter.reason,
        "attempts": letter.attempts, "error": letter.error,
    }  # fmt: skip
    content = content_of(letter.body)
    return line if content is None else line | {"digest": _digest(content)}


def _record(log: str, entry: LogEntry, lead: float) -> _Line:
    line: _Line = {
        "type": "record", "log": log, "partition": entry.partition, "offset": entry.offset,
        "messageId": entry.message_id, "bytes": entry.digest.hex(),
        "at": entry.appended_at - lead,
    }  # fmt: skip
    if entry.content is not None:
        line["digest"] = _digest(entry.content)
    if entry.accepted_at is not None and entry.content is not None:
        line["acceptedAt"] = entry.accepted_at
    if entry.mirror_of is not None:
        line["mirrorOf"] = entry.mirror_of
    if entry.mirror_partition is not None:
        line["mirrorPartition"] = entry.mirror_partition
    if entry.shadow_mode is not None:
        line["mode"] = entry.shadow_mode
    return line


def _digest(content: str) -> str:
    return digest_of(content)[:32]
