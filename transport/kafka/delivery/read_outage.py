"""Telling once that a log can't be read, and once that it can again."""

from __future__ import annotations

import logging
import time

from transport.errors import TransportError

__all__ = ["ReadOutage"]

log = logging.getLogger(__name__)


class ReadOutage:
    """The members of one log's groups that can't read it now; one line for all of them."""

    def __init__(self) -> None:
        self._members: set[object] = set()
        self._since = 0.0

    def failed(self, member: object, error: TransportError) -> None:
        """Tell that ``member`` can't read the log, if no other could not before."""
        if not self._members:
            self._since = time.monotonic()
            log.warning(
                "Kafka can't be read: records wait in it; will retry", extra={"error": str(error)}
            )
        self._members.add(member)

    def over(self, member: object) -> None:
        """Tell that the log can be read, if ``member`` was the last that could not."""
        if member not in self._members:
            return
        self._members.discard(member)
        if not self._members:
            seconds = round(time.monotonic() - self._since, 1)
            log.info("Kafka can be read again", extra={"seconds": seconds})
