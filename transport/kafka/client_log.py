"""Quieten aiokafka: what we tell ourselves, and the same failure again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["OncePerOutage", "SaidByUs", "install"]

_AGAIN_AFTER = 60.0


class SaidByUs(logging.Filter):
    """Drop what aiokafka logs of a client that can't start, often without its reason.

    ``Connector`` raises it, with the reason and the remedy.
    """

    MESSAGES = ('Unable connect to "%s:%s": %s', 'Unable to request metadata from "%s:%s": %s')

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` is to be logged."""
        return record.msg not in self.MESSAGES


class OncePerOutage(logging.Filter):
    """Let it be told once that a node can't be reached, until that was not so for a minute.

    aiokafka says it at each try, some ten times a minute for each of a process's clients; and for
    each connection that a password goes unencrypted.

    Args:
        clock: returns seconds.
    """

    MESSAGES = (
        "Unable connect to node with id %s: %s",
        "Unable to update metadata from %s",
        "Failed fetch messages from %s: %s",
        "Sending username and password in the clear",
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` is to be logged."""
        message = str(record.msg)
        if message not in self.MESSAGES:
            return True
        node = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        now = self._clock()
        last = self._last.get((message, node))
        self._last[message, node] = now
        return last is None or now - last > _AGAIN_AFTER


def install() -> None:
    """Add both to the loggers of aiokafka that say these, for every client in this process."""
    told, once = SaidByUs(), OncePerOutage()
    for name in ("aiokafka", "aiokafka.conn", "aiokafka.consumer.fetcher"):
        logger = logging.getLogger(name)
        logger.addFilter(told)
        logger.addFilter(once)
