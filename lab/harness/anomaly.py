"""The kinds of anomaly that the checkers find in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Anomaly", "What", "report"]

_SHOWN = 12


class What(StrEnum):
    """The kind of an anomaly; each kind breaks a promise."""

    LOST = "acknowledged and nowhere"
    DOUBLED = "one body in more than one row"
    REORDERED = "sent after an acknowledgement, stands before it"
    PHANTOM = "a row that nobody sent, or that was refused"
    ALTERED = "a row with other contents than any attempt"
    ID_CHANGED = "one key, two ids"
    TIME_CHANGED = "an answer with a time that no record of the message has"
    CONFLICT_LOST = "an acknowledged body that is neither the row nor a dead letter"
    DEAD_LETTERED = "a dead letter for no fault of its own"
    POISON_VANISHED = "a record that can't be persisted, and no dead letter"
    REFUSED = "a good request refused"
    FALSE_HIT = "called a repeat, and nobody sent it before"
    SERVER_ERROR = "a 5xx other than a 503 that says when to come back"
    PAGE_DIFFERS = "a reader of pages saw another order than the table's"
    NOT_IN_LOG = "acknowledged, and not in a log that had to have it"
    LOG_REORDERED = "sent after an acknowledgement, stands before it in a log"
    TWO_HOMES = "a conversation in more than one partition of a log"
    BAD_COPY = "a copy of a record that is not there, or not the same"
    STUCK = "after a fault was healed, nothing went on"


class Anomaly(NamedTuple):
    """One finding: its kind, its place (a key, an id or a conversation), and the facts."""

    what: What
    where: str
    facts: str

    def __str__(self) -> str:
        return f"{self.what.name}: {self.what} [{self.where}] {self.facts}"


def report(anomalies: Sequence[Anomaly]) -> str:
    """Return the anomalies for people: the count of each kind, then the first ones."""
    if not anomalies:
        return "no anomaly"
    counts = Counter(anomaly.what for anomaly in anomalies)
    head = ", ".join(f"{count} {what.name}" for what, count in counts.most_common())
    shown = "\n  ".join(str(anomaly) for anomaly in anomalies[:_SHOWN])
    return f"{head}\n  {shown}"
