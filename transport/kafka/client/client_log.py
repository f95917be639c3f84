"""Quieten aiokafka: what we tell ourselves, and the same line again and again."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

__all__ = ["OncePerOutage", "SaidByUs", "install"]

_AGAIN_AFTER = 60.0
_MOST_KEPT = 256
_NUMBERS = re.compile(r"\d+")

_Line = tuple[object, ...]


class SaidByUs(logging.Filter):
    """Drop what aiokafka logs of connections that fail, often without the reason or the address.

    ``Connector`` raises it for a client that can't start, ``NodeOutages`` tells it of a node, and
    both with the remedy.
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
    """Let a line be told once, until it was not said for a minute.

    In an outage aiokafka repeats its lines up to ten times a second for each of a process's
    clients. A line is the same if nothing but its numbers (nodes, partitions, offsets) and the
    texts of its errors are different; an error of another kind makes it another line.

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
    """Add both to every logger of aiokafka, for every client in this process."""
    filters = SaidByUs(), OncePerOutage()
    # A logger's filters don't see what loggers below it are told.
    for name in ("aiokafka", *logging.root.manager.loggerDict):
        if name.split(".")[0] == "aiokafka":
            logger = logging.getLogger(name)
            for each in filters:
                logger.addFilter(each)
