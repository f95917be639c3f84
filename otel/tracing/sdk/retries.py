"""Notice retries of OpenTelemetry's exporters, which they report in their log alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Retries"]

_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
_RETRYING = "Transient error "  # what both begin the line with


class Retries(logging.Filter):
    """Notices that an exporter retries. After ``silence`` nothing that they log is shown.

    The warning has to be made for that, also where the process shows errors alone (``LOG_LEVEL``).
    The loggers are the process's own: an exporter of another pipeline, which may outlive it, logs
    there too. An export's thread tells them apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self._under_way = threading.Event()
        self._exporting: set[int] = set()  # threads
        self._silent = False
        self._levels: dict[str, tuple[int, int]] = {}  # as it was set, and as it was in effect
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._levels[name] = logger.level, logger.getEffectiveLevel()
            logger.setLevel(min(logger.getEffectiveLevel(), logging.WARNING))
            # Before those of an exporter that did not end in time: they let nothing through.
            logger.filters.insert(0, self)

    @property
    def under_way(self) -> bool:
        """Whether an export failed and is to be tried again, with no success since."""
        return self._under_way.is_set()

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Notice retries of the export that the calling thread makes inside."""
        thread = threading.get_ident()
        self._exporting.add(thread)
        try:
            yield
        finally:
            self._exporting.discard(thread)

    def ended(self) -> None:
        """Note that an export succeeded."""
        self._under_way.clear()

    def silence(self) -> None:
        """Drop what they log from now on: the caller says what became of the spans."""
        self._silent = True

    def close(self) -> None:
        """Leave the loggers as they were."""
        for name, (level, _) in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeFilter(self)
            logger.setLevel(level)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass unless silent, or below the level that was in effect."""
        if record.thread in self._exporting and str(record.msg).startswith(_RETRYING):
            self._under_way.set()
        _, shown = self._levels[record.name]
        return not self._silent and record.levelno >= shown
