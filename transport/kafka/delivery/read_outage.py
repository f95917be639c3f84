"""Log lines about a log that can't be read: one when that begins, one when it ends."""

from __future__ import annotations

import logging
import time

from transport.errors import TransportError

__all__ = ["ReadOutage"]

log = logging.getLogger(__name__)


class ReadOutage:
    """Tracks the consumers that can't read one log, and logs one line for all of them."""

    def __init__(self) -> None:
        self._members: set[object] = set()
        self._since = 0.0

    def failed(self, member: object, error: TransportError) -> None:
        """Note that ``member`` can't read the log; log it if it is the first."""
        if not self._members:
            self._since = time.monotonic()
            log.warning(
                "Kafka can't be read: records wait in it; will retry", extra={"error": str(error)}
            )
        self._members.add(member)

    def over(self, member: object) -> None:
        """Note that ``member`` can read the log again; log it if it was the last that could not."""
        if member not in self._members:
            return
        self._members.discard(member)
        if not self._members:
            seconds = round(time.monotonic() - self._since, 1)
            log.info("Kafka can be read again", extra={"seconds": seconds})

    def ended(self, member: object) -> None:
        """Note that ``member`` is closed: whether the log can be read is for others to say."""
        self._members.discard(member)
