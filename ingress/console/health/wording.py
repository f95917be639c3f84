"""Texts for durations, partitions and dependencies, and sentences as texts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ingress.console.views import Sentence

__all__ = [
    "MISSED",
    "REFUSED",
    "ago",
    "alarms_in",
    "dependency_name",
    "named",
    "seconds_since",
    "span",
    "with_remedy",
]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

REFUSED = "POSTs are answered 503, and clients retry with the same key."
MISSED = "It is the shadow: what it misses is counted, and can be backfilled."


def span(seconds: float) -> str:
    """Return a duration as text, such as ``45 s`` or ``3 days``."""
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
    """Return the time since ``moment`` (RFC 3339) as text, also if it can't be read."""
    age = seconds_since(moment, now)
    return "an unknown time" if age is None else span(age)


def seconds_since(moment: str, now: datetime) -> float | None:
    """Return the seconds since ``moment`` (RFC 3339), or ``None`` if it can't be read."""
    try:
        return max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):  # not a time, or a time without its offset
        return None


def dependency_name(name: str) -> str:
    """Return the display name of a dependency."""
    return "PostgreSQL" if name == "postgresql" else name


def named(numbers: Sequence[int]) -> str:
    """Return partitions as text, with ranges, such as ``partitions 0-3, 7``."""
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


def alarms_in(health: Sequence[Sentence]) -> list[Sentence]:
    """Return the sentences that need an operator now: with any, commands don't exit with 0."""
    return [sentence for sentence in health if sentence.level == "alarm"]


def with_remedy(sentence: Sentence) -> str:
    """Return a sentence with its remedy as one text."""
    return f"{sentence.text} {sentence.next}" if sentence.next else sentence.text
