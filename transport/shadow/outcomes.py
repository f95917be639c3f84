"""Outcomes of a copy, in the words that metrics and the gap ledger use."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Drop", "Sent"]


class Sent(StrEnum):
    """How one attempt to append one copy ended."""

    APPENDED = "appended"
    REMEMBERED = "remembered"
    """The shadow has had it already."""
    CONFLICT = "conflict"
    """The shadow has had another body under this key (promise 5: the first one stays)."""
    FAILED = "failed"
    """Not appended: the shadow could not be reached, or is not asked while the breaker is open."""
    UNKNOWN = "unknown"
    """Sent, and no answer came."""
    TIMED_OUT = "timed_out"
    """Given up after ``TRANSPORT_SHADOW_TIMEOUT_MS``."""


class Drop(StrEnum):
    """Why a copy will never be sent. Each is counted, and recorded for backfill."""

    QUEUE_FULL = "queue_full"
    BREAKER_OPEN = "breaker_open"
    """The queue was full while the shadow was not working."""
    REFUSED = "refused"
    """The shadow will never take this record (too large for it, say)."""
    CLOSED = "closed"
    """It still waited when the process stopped."""
    PRIMARY_UNKNOWN = "primary_unknown"
    """The primary did not say whether it has the message, so there was nothing to copy."""

    @property
    def label(self) -> str:
        """As ``shadow_publish_total`` names it."""
        return f"dropped_{self.value}"
