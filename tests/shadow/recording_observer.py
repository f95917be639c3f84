"""What a test sees of a mirror: counts by outcome, and every message that was noted as missed."""

from __future__ import annotations

from collections import Counter

from transport.shadow.observer import BreakerState, ShadowBacklog
from transport.shadow.outcomes import Drop

__all__ = ["RecordingObserver"]


class RecordingObserver:
    """Observer and gap ledger in one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.states: list[BreakerState] = []
        self.backlog = ShadowBacklog()
        self.gaps: list[tuple[int, str, str | None]] = []
        self.unwritten = 0

    def published(self, outcome: str, records: int) -> None:
        self.counts[str(outcome)] += records

    def waiting(self, backlog: ShadowBacklog) -> None:
        self.backlog = backlog

    def breaker(self, state: BreakerState) -> None:
        self.states.append(state)

    def note(self, partition: int, drop: Drop, offset: str | None) -> None:
        self.gaps.append((partition, drop.value, offset))
