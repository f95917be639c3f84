"""The POSTs of the last moments, for a sample; the history of a round passes them on."""

from __future__ import annotations

import math
from collections.abc import Callable

from compose.harness.history import ClientAttempt, ClientHistory

__all__ = ["PostMeter", "RoundHistory"]


class PostMeter:
    """Collects attempts until ``take`` returns their figures and forgets them."""

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
        """Return the series since the last call; none where nothing was sent."""
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
    """A round's attempts. Those that a load's process tells of have ended."""

    def __init__(self, ended: Callable[[ClientAttempt], None]) -> None:
        super().__init__()
        self._told = ended

    def begin(self, attempt: ClientAttempt) -> ClientAttempt:
        """Keep it, and tell of it."""
        self._told(attempt)
        return super().begin(attempt)
