"""The log of OpenTelemetry's exporters: only there are their retries visible."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Retries"]

_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
_RETRYING = "Transient error "  # both log a retry with this beginning
_INTERVAL = 60.0
"""Seconds between two lines of a kind: a collector that refuses fails several exports a second."""


class Retries(logging.Filter):
    """Notices that an exporter retries. After ``silence``, nothing that exporters log is shown.

    Until then, one line of a kind is shown a minute, with the number of those left out before it.

    A retry is noticed by the exporter's warning, so warnings are enabled even if the process shows
    errors alone (``LOG_LEVEL``), and dropped here. The loggers are the process's own: an exporter
    of another pipeline, which may outlive this one, logs there too. The thread of an export tells
    them apart.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._shown: dict[str, tuple[float, int]] = {}  # by kind: when, and how many since
        self._under_way = threading.Event()
        self._exporting: set[int] = set()  # threads
        self._silent = False
        self._levels: dict[str, tuple[int, int]] = {}  # the level set, and the level in effect
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._levels[name] = logger.level, logger.getEffectiveLevel()
            logger.setLevel(min(logger.getEffectiveLevel(), logging.WARNING))
            # First, before the filters of pipelines that did not end in time: those let nothing
            # through.
            logger.filters.insert(0, self)

    @property
    def under_way(self) -> bool:
        """Whether an export failed and is to be tried again, with no success since."""
        return self._under_way.is_set()

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Notice retries of the export that the calling thread makes in this block."""
        thread = threading.get_ident()
        self._exporting.add(thread)
        try:
            yield
        finally:
            self._exporting.discard(thread)

    def ended(self) -> None:
        """Record that an export succeeded."""
        self._under_way.clear()

    def silence(self) -> None:
        """Drop the exporters' log lines from now on: the caller reports lost spans itself."""
        self._silent = True

    def close(self) -> None:
        """Leave the loggers as they were."""
        for name, (level, _) in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeFilter(self)
            logger.setLevel(level)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass unless silent, below the level that was in effect, or too soon."""
        if record.thread in self._exporting and str(record.msg).startswith(_RETRYING):
            self._under_way.set()
        _, shown = self._levels[record.name]
        return not self._silent and record.levelno >= shown and self._is_due(record)

    def _is_due(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg), self._clock()
        shown, left_out = self._shown.get(kind, (float("-inf"), 0))
        if now - shown < _INTERVAL:
            self._shown[kind] = shown, left_out + 1
            return False
        self._shown[kind] = now, 0
        if left_out:
            record.left_out = left_out
        return True
