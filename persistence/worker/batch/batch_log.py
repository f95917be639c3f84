"""The log lines of committed batches: one a minute, however many batches there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import structlog

from persistence.store.batch import PositionedEvent
from persistence.worker.batch.timer import RestartableTimer

__all__ = ["BatchLog"]

_log = structlog.get_logger(__name__)


class BatchLog:
    """Logs the batches that ended in one way.

    The first batch after a pause is logged at once, so a message that comes alone has a line with
    its ids. Those of the next minute are added up and logged when it is over: under load, tens of
    batches a second are stored, and a line for each names no message. With ``LOG_LEVEL=DEBUG`` each
    batch has a line, too.

    Args:
        event: the text of the line.
        outcome: the end of these batches, in one word.
        seconds: the time between two lines.
    """

    def __init__(self, event: str, outcome: str, *, seconds: float = 60.0) -> None:
        self._event = event
        self._outcome = outcome
        self._timer = RestartableTimer(self.tell, seconds)
        self._count = 0
        self._partitions = set[int]()
        self._fields: dict[str, Any] = {}

    def add(self, rows: Sequence[PositionedEvent]) -> None:
        """Log a batch: now, or together with others of the same minute."""
        if _log.is_enabled_for(logging.DEBUG):
            _log.debug("Batch stored", outcome=self._outcome, **_described(rows))
        if not self._timer.is_running:
            _log.info(self._event, **_described(rows))
            self._timer.begin()
            return
        if not self._count:
            self._fields = _described(rows)
        self._count += len(rows)
        self._partitions.update(positioned.partition for positioned in rows)

    def tell(self) -> None:
        """Log the sum so far, before the minute is over."""
        if not self._count:
            return
        fields = self._fields
        if self._count > 1:
            transport, partitions = fields["transport"], sorted(self._partitions)
            fields = {"count": self._count, "transport": transport, "partitions": partitions}
        _log.info(self._event, **fields, seconds=self._timer.elapsed)
        self._count = 0
        self._partitions.clear()
        self._timer.begin()


def _described(rows: Sequence[PositionedEvent]) -> dict[str, Any]:
    first = rows[0]
    if len(rows) > 1:
        partitions = sorted({positioned.partition for positioned in rows})
        return {"count": len(rows), "transport": first.transport, "partitions": partitions}
    return {
        "count": 1,
        "transport": first.transport,
        "partition": first.partition,
        "offset": first.offset,
        "message_id": first.event.message_id,
        "correlation_id": first.event.correlation_id,
        "trace_id": first.trace_id,
    }
