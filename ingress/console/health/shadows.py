"""Sentences about shadows that take no copies, and about copies that are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ingress.console.health.wording import MISSED, REFUSED, named
from ingress.console.views import LogView, ProcessView, Sentence
from persistence.fleet.missing_copies import MissingCopies

__all__ = ["answers_wait_for", "missing_sentences", "shadow_sentences"]


def shadow_sentences(
    logs: Sequence[LogView], processes: Sequence[ProcessView]
) -> Iterator[Sentence]:
    """Yield sentences about shadows that answer but take no writes.

    Such a shadow is full or read-only, or our user lacks a right.
    """
    silent = {log.name for log in logs if log.error}
    refusals: dict[str, list[str]] = defaultdict(list)
    for process in processes:
        shadow = process.shadow if process.live else None
        if shadow and shadow.get("breaker") != "closed" and shadow.get("name") not in silent:
            refusals[str(shadow.get("name"))].append(str(shadow.get("error")))
    for name, errors in refusals.items():
        answers_wait = answers_wait_for(name, processes)
        those = "1 process" if len(errors) == 1 else f"{len(errors)} processes"
        yield Sentence(
            level="alarm" if answers_wait else "warning",
            text=f"The shadow {name} takes no copies of {those}: {errors[0]}. "
            f"{REFUSED if answers_wait else MISSED}",
            next="Fix the cause, and processes go on by themselves; or take a step back: "
            "`crossfade migrate rollback --why ...`.",
            page="migration",
        )


def answers_wait_for(name: str, processes: Sequence[ProcessView]) -> bool:
    """Return whether this log is a shadow in sync mode, so that POSTs wait for its copy."""
    shadows = [process.shadow for process in processes if process.live and process.shadow]
    return any(shadow.get("name") == name and shadow.get("mode") == "sync" for shadow in shadows)


def missing_sentences(missing: MissingCopies | None) -> Iterator[Sentence]:
    """Yield a sentence if the shadow is missing copies since its phase was reached."""
    if missing is None or not missing.records:
        return
    copies = "1 message" if missing.records == 1 else f"{missing.records} messages"
    where = f" ({named(missing.partitions)})" if missing.partitions else ""
    choice = missing.choice
    yield Sentence(
        level="alarm" if choice.mode == "sync" else "warning",
        text=f"{choice.shadow} is missing {copies} that {choice.transport} has{where}.",
        next="`crossfade migrate backfill` appends them. Until then, the gate `dropped` refuses "
        "each step forward from a phase in sync mode.",
        page="migration",
    )
