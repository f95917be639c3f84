"""Figures of the POSTs since the last sample, collected from the histories of the rounds."""

from __future__ import annotations

import math
from collections.abc import Callable

from lab.harness.history import ClientAttempt, ClientHistory

__all__ = ["PostMeter", "RoundHistory"]


class PostMeter:
    """Collects attempts; ``take`` returns their figures and starts anew."""

    def __init__(self) -> None:
        self._took: list[float] = []
        self._failed = 0

    def add(self, attempt: ClientAttempt) -> None:
        """Count an attempt that has ended."""
        if attempt.answered:
            self._took.append(attempt.took * 1000)
        else:
            self._failed += 1

    def take(self) -> dict[str, float]:
        """Return the values of the series since the last call; empty if nothing was sent."""
        took, failed = sorted(self._took), self._failed
        self._took, self._failed = [], 0
        values: dict[str, float] = {}
        if tried := len(took) + failed:
            values["failed/POST"] = 100 * failed / tried
        if took:
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                values[f"post/{name}"] = took[max(0, math.ceil(share * len(took)) - 1)]
        return values


class RoundHistory(ClientHistory):
    """The attempts of a round. A load's process reports them only when they have ended.

    Args:
        ended: Called with each attempt.
    """

    def __init__(self, ended: Callable[[ClientAttempt], None]) -> None:
        super().__init__()
        self._told = ended

    def begin(self, attempt: ClientAttempt) -> ClientAttempt:
        """Keep the attempt, and pass it to ``ended``."""
        self._told(attempt)
        return super().begin(attempt)
