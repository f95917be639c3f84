"""What the exporters of OpenTelemetry tell only their log: that they wait before they try again."""

from __future__ import annotations

import logging
import threading

__all__ = ["Retries"]

_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
_RETRYING = "Transient error "  # what both begin the line with


class Retries(logging.Filter):
    """Notices that an exporter retries. After :meth:`silence` nothing that they log is shown."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way = threading.Event()
        self._silent = False
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    @property
    def under_way(self) -> bool:
        """Whether an export failed and is to be tried again, with no success since."""
        return self._under_way.is_set()

    def ended(self) -> None:
        """Note that an export succeeded."""
        self._under_way.clear()

    def silence(self) -> None:
        """Drop what they log from now on: the caller says what became of the spans."""
        self._silent = True

    def close(self) -> None:
        """Leave the loggers as they were."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass unless silent."""
        if str(record.msg).startswith(_RETRYING):
            self._under_way.set()
        return not self._silent
