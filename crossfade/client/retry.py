"""Retries: after which failures, how often, after how long, and until when."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RETRIED", "Retry", "retry_after"]

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses after which the same request may succeed. No other 4xx is ever retried."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long and how often a call goes on trying. ``Retry(attempts=1)`` tries once."""

    deadline: float | None = 30.0
    """Seconds for one call with all its attempts and pauses (for each request of a batch that is
    sent in several). ``None`` goes on for ever."""
    attempts: int | None = None
    """The most requests for one call; ``None`` leaves it to the deadline."""
    first_pause: float = 0.1
    """Seconds. The pause before the first retry is drawn between 0 and this, and the range doubles
    with each retry (full jitter), so that many clients do not come back at once."""
    longest_pause: float = 5.0
    """Seconds. A server's ``Retry-After`` may be longer; the jitter is added to it."""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            ValueError: a figure is out of range.
        """
        if self.deadline is not None and self.deadline <= 0:
            raise ValueError(f"deadline is {self.deadline}: give seconds above 0, or None")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: give 1 or more, or None")
        if self.first_pause < 0 or self.longest_pause < 0:
            raise ValueError("first_pause and longest_pause are seconds, 0 or more")

    def pause(self, failures: int, at_least: float | None) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            failures: how many attempts have failed, 1 or more.
            at_least: the seconds in the server's ``Retry-After``, if there were any.
        """
        # The exponent is bounded: 2.0**1024 would overflow.
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 64))
        return (at_least or 0.0) + random.uniform(0.0, longest)  # noqa: S311 - no secret


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in ``Retry-After`` (RFC 9110, section 10.2.3); ``None`` if there are none.

    A date is counted from the answer's own ``Date`` where it has one: the clocks may differ.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    until = _date(text)
    if until is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter of an offset past all clocks
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
