"""Filters for aiokafka's log: they drop lines that we log ourselves, and repeated lines."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

__all__ = ["LoggedElsewhere", "OncePerOutage", "install"]

_AGAIN_AFTER = 60.0
_MOST_KEPT = 256
_NUMBERS = re.compile(r"\d+")

_Line = tuple[object, ...]


class LoggedElsewhere(logging.Filter):
    """Drops aiokafka's lines about failed connections, which often lack the reason or the address.

    ``Connector`` raises an error if a client can't start, and ``NodeOutages`` logs nodes that can't
    be reached. Both name the remedy.
    """

    MESSAGES = (
        'Unable connect to "%s:%s": %s',
        'Unable to request metadata from "%s:%s": %s',
        "Unable connect to node with id %s: %s",
    )

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` is to be logged."""
        return record.msg not in self.MESSAGES


class OncePerOutage(logging.Filter):
    """Lets a line pass once; it may pass again after a minute without it.

    In an outage aiokafka repeats its lines up to ten times a second for each client of a process.
    Two lines are the same if they differ only in numbers (nodes, partitions, offsets) and in the
    texts of errors of the same class.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[_Line, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` is to be logged."""
        line, now = _line(record), self._clock()
        last = self._last.get(line)
        if last is None and len(self._last) >= _MOST_KEPT:
            self._forget(now)
        self._last[line] = now
        return last is None or now - last > _AGAIN_AFTER

    def _forget(self, now: float) -> None:
        self._last = {line: last for line, last in self._last.items() if now - last <= _AGAIN_AFTER}


def _line(record: logging.LogRecord) -> _Line:
    args = record.args if isinstance(record.args, tuple) else (record.args,)
    return record.name, record.msg, *map(_kind, args)


def _kind(value: object) -> object:
    if isinstance(value, BaseException):
        return type(value)
    if isinstance(value, str | type):
        return value
    return _NUMBERS.sub("", str(value))


def install() -> None:
    """Add both filters to every logger of aiokafka in this process."""
    filters = LoggedElsewhere(), OncePerOutage()
    # A logger's filters don't apply to the records of its child loggers.
    for name in ("aiokafka", *logging.root.manager.loggerDict):
        if name.split(".")[0] == "aiokafka":
            logger = logging.getLogger(name)
            for each in filters:
                logger.addFilter(each)
