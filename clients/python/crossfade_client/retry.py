"""The retry policy: which failures are retried, how often, after which pause, and until when."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RETRIED", "Retry", "retry_after"]

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""The statuses that are retried: the same request may succeed later. No other status is retried.

Cloudflare answers 520 to 524 where other proxies answer 502 or 504, such as while we restart.
"""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long and how often a call is tried. ``Retry(attempts=1)`` tries once."""

    deadline: float | None = 30.0
    """Seconds for one call with all its attempts and pauses. If a batch needs several requests,
    each has this deadline. ``None``: no deadline."""
    attempts: int | None = None
    """The most requests for one call. ``None``: only the deadline limits them."""
    first_pause: float = 0.1
    """Seconds. The pause before the first retry is drawn between 0 and this, and the range doubles
    with each retry (full jitter), so that many clients do not come back at once."""
    longest_pause: float = 5.0
    """Seconds, the limit of that range. A server's ``Retry-After`` may be longer; the jitter is
    added to it."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: A value is out of range.
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
            failures: The number of failed attempts, 1 or more.
            at_least: The seconds in the server's ``Retry-After``, if it was sent.
        """
        # The exponent is bounded: 2.0**1024 would overflow.
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 64))
        return (at_least or 0.0) + random.uniform(0.0, longest)  # noqa: S311 - no secret


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return ``Retry-After`` in seconds (RFC 9110, section 10.2.3), or ``None`` if it is missing.

    A date is compared with the answer's own ``Date``, if it has one, as the clocks may differ.
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
    except (ValueError, OverflowError):  # OverflowError: a time zone's offset is out of range
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
