"""Sentences about shadows that take no copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ingress.console.health.wording import MISSED, REFUSED
from ingress.console.views import LogView, ProcessView, Sentence

__all__ = ["answers_wait_for", "shadow_sentences"]


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
