"""Histories made by hand, for tests of the checkers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lab.harness.checker import check
from lab.harness.content_name import name_of_digest, text_in_log
from lab.harness.final import Final, FinalRow, Letter
from lab.harness.history import ClientAttempt, ClientHistory, Outcome, RequestKind
from lab.rehearsal.history_file import write_history
from lab.rehearsal.log_checker import check_logs
from lab.rehearsal.logs import LogEntry
from lab.rehearsal.report import verdict_of
from transport.contract import Reason

changed = msgspec.structs.replace

MIRROR = 2  # both logs are asked
LOGS = ("redis", "kafka")


@dataclass
class Story:
    """A history and its end. ``logs`` holds each log's entries in their order."""

    attempts: list[ClientAttempt] = field(default_factory=list)
    rows: list[FinalRow] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    pages: dict[str, list[str]] = field(default_factory=dict)
    logs: dict[str, list[LogEntry]] = field(default_factory=lambda: {name: [] for name in LOGS})
    planted: dict[str, Reason] = field(default_factory=dict)

    def parts(self) -> tuple[ClientHistory, Final, dict[str, dict[int, Sequence[LogEntry]]]]:
        history = ClientHistory(self.attempts)
        history.planted = self.planted
        final = Final(
            rows=self.rows, receipts=self.receipts, letters=self.letters, pages=self.pages
        )
        logs = {name: _by_partition(entries) for name, entries in self.logs.items()}
        return history, final, logs

    def first_opinion(self) -> set[str]:
        """Return the promises that the checker in Python finds broken."""
        history, final, logs = self.parts()
        found = [*check(history, final), *check_logs(history, logs, final.rows)]
        return {name for name, count in verdict_of(found).items() if count}

    def write(self, path: Path) -> Path:
        history, final, logs = self.parts()
        write_history(path, history, final, logs)
        return path


def _by_partition(entries: Sequence[LogEntry]) -> dict[int, Sequence[LogEntry]]:
    found: dict[int, list[LogEntry]] = {}
    for entry in entries:
        part = found.setdefault(entry.partition, [])
        part.append(changed(entry, place=len(part)))
    return dict(found)


def content(n: int | str) -> str:
    """Return the name of a content: 3 and 4b are large."""
    return name_of_digest(f"{n:0<64}") if n in {3, "4b"} else f"content-{n}"


def accepted_at(n: int) -> str:
    return f"2026-11-24T20:18:19.{n:06}Z"


def attempt(n: int, **changes: Any) -> ClientAttempt:
    """Message ``n``, sent at ``n`` to an ingress on phase 2, acknowledged half a second later."""
    made = ClientAttempt(
        key=f"w:c:{n}", conversation="c", client="w", content=content(n), sent=float(n),
        ended=n + 0.5, outcome=Outcome.OK, status=202, message_id=f"id-{n}", hit=False,
        via="ingress-1", phase=MIRROR, accepted_at=accepted_at(n),
    )  # fmt: skip
    return changed(made, **changes)


def refused(n: int, status: int, **changes: Any) -> ClientAttempt:
    return attempt(n, outcome=Outcome.FAILED, status=status, message_id=None, hit=None, **changes)


def unanswered(n: int, status: int | None = None) -> ClientAttempt:
    return changed(refused(n, 0), outcome=Outcome.UNKNOWN, status=status)


def row(n: int, **changes: Any) -> FinalRow:
    made = FinalRow(
        message_id=f"id-{n}", key=f"w:c:{n}", conversation="c", content=content(n), seq=n,
        transport="redis", partition=3, offset=f"{n}-0",
    )  # fmt: skip
    return changed(made, **changes)


def entry(n: int, **changes: Any) -> LogEntry:
    made = LogEntry(
        partition=3, place=0, offset=f"{n}-0", message_id=f"id-{n}", content=content(n),
        digest=_bytes(n), appended_at=float(n), accepted_at=accepted_at(n),
    )  # fmt: skip
    return changed(made, **changes)


def copy(n: int, **changes: Any) -> LogEntry:
    return entry(n, **{"offset": f"{n}", "mirror_of": f"redis:{n}-0", **changes})


def _bytes(n: int) -> bytes:
    return n.to_bytes(16)


def sound() -> Story:
    """Five messages in both logs; the last has a race of two bodies, a receipt and a repeat."""
    story = Story(
        attempts=[attempt(n) for n in range(5)],
        rows=[row(n) for n in range(5)],
        logs={"redis": [entry(n) for n in range(5)], "kafka": [copy(n) for n in range(5)]},
        pages={"c": [f"id-{n}" for n in range(5)]},
        receipts=["id-4/delivered/reader"],
    )
    receipt = attempt(
        5, kind=RequestKind.RECEIPT, key="id-4/delivered/reader", content="", phase=MIRROR
    )
    race = attempt(4, sent=4.1, content=content("4b"))
    repeat = attempt(1, sent=6.0, ended=6.5, status=200, hit=True)
    story.attempts += [race, receipt, repeat, refused(2, 422, sent=7.0, content="content-2b")]
    story.letters.append(
        Letter(
            message_id="id-4", reason=Reason.IDEMPOTENCY_CONFLICT,
            body=b'{"content":"","payloadKey":"id-4/%b"}' % text_in_log(content("4b")).encode(),
        )
    )  # fmt: skip
    story.logs["redis"].append(entry(6, message_id="id-4", content=content("4b")))
    return story


def swap(items: list[Any], a: int, b: int) -> None:
    items[a], items[b] = items[b], items[a]


def set_at(items: list[Any], at: int, **changes: Any) -> None:
    items[at] = changed(items[at], **changes)
