"""The sentence about dead letters that wait for a decision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ingress.console.health.wording import ago
from ingress.console.views import Sentence
from persistence.reads.overview import Letters

__all__ = ["letter_sentences"]


def letter_sentences(letters: Letters | None, now: datetime) -> Iterator[Sentence]:
    """Yield a sentence with the number of pending dead letters, by reason, if there are any."""
    if letters is None or not letters.pending:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in letters.by_reason.items())
    those = "letter waits" if letters.pending == 1 else "letters wait"
    age = f", the oldest for {ago(letters.oldest, now)}" if letters.oldest else ""
    yield Sentence(
        level="notice",
        text=f"{letters.pending} dead {those} for a decision ({reasons}){age}.",
        next="Read their errors and fix the cause, then redrive them; or discard them with a "
        "reason.",
        page="dead-letters",
    )
