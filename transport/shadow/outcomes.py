"""The outcomes of copies, as metrics and the gap ledger name them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Drop", "Sent"]


class Sent(StrEnum):
    """The outcome of one attempt to append one copy."""

    APPENDED = "appended"
    REMEMBERED = "remembered"
    """The shadow already had it."""
    CONFLICT = "conflict"
    """The shadow already had another body under this key (promise 5: the first one stays)."""
    FAILED = "failed"
    """Not appended: the shadow could not be reached, or the breaker is open."""
    UNKNOWN = "unknown"
    """Sent, and no answer came."""
    TIMED_OUT = "timed_out"
    """Given up after ``TRANSPORT_SHADOW_TIMEOUT_MS``."""


class Drop(StrEnum):
    """The reason why a copy will never be sent. Each is counted, and recorded for backfill."""

    QUEUE_FULL = "queue_full"
    BREAKER_OPEN = "breaker_open"
    """The queue was full while the shadow was not working."""
    REFUSED = "refused"
    """The shadow will never take this record (it is too large, for example)."""
    CLOSED = "closed"
    """It still waited when the process stopped."""
    PRIMARY_UNKNOWN = "primary_unknown"
    """It is unknown whether the primary has the message, so it was not copied."""

    @property
    def label(self) -> str:
        """The label in ``shadow_publish_total``."""
        return f"dropped_{self.value}"
