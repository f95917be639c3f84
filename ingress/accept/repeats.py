"""The check for repeats before large content is uploaded.

If the message has a row that may answer, the row answers the repeat, as in a group commit. The
log's memory of an append is no final answer: only an append itself is confirmed by replicas and by
a second log. So a message that the log or this process remembers continues to its group commit, but
is not uploaded again if the store has its content.

Two concurrent requests with the same key may both find nothing. Then both upload, and equal content
goes to the same key.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from ingress.accept.recent_keys import RecentKeys
from ingress.accept.row_lookup import RowLookup, remembered
from ingress.accept.submission import Stored, Submission
from ingress.schema.responses import AckState
from ingress.shared_query import SharedQuery, Waiting
from otel.metrics import Metrics
from persistence.errors import PersistenceError
from persistence.metrics import IdempotencyMetrics
from persistence.store.lookup import StoredAnswer
from transport.contract import Remembered, Transport
from transport.deadline import answer
from transport.errors import TransportError

__all__ = ["Repeats"]

_log = structlog.get_logger(__name__)

_PATIENCE = 0.25
"""Seconds to wait for the log's answer. After them the content is uploaded."""


class _Known(NamedTuple):
    """The answer for one message: its row, or the log's memory of its append, or neither."""

    row: StoredAnswer | None = None
    remembered: Remembered | None = None


class Repeats:
    """Asks PostgreSQL, then the log, whether messages are repeats. Concurrent calls share a query.

    Args:
        row_lookup: Asks PostgreSQL, and skips it during an outage.
        recent: The messages that were accepted before, and may have no row yet.
        transport: The log that messages are appended to.
        metrics: The process's metrics.
    """

    def __init__(
        self, row_lookup: RowLookup, recent: RecentKeys, transport: Transport, *, metrics: Metrics
    ) -> None:
        self._row_lookup = row_lookup
        self._recent = recent
        self._transport = transport
        self._checked = metrics.of(IdempotencyMetrics).requests.labels("ingress")
        self._query = SharedQuery(self._ask, unanswered=_Known)

    async def decide(self, message: Submission, fingerprint: str | None) -> bool:
        """Set a message's verdict if it has a row, or if another body of it was accepted before.

        Args:
            message: The message.
            fingerprint: The digest of its body. While it is not known (``None``), only a row
                decides.

        Returns:
            Whether the message was accepted before with the same body.
        """
        began = time.time_ns()
        row, first = await self._query.answer(message.message_id)
        if row is not None:
            self._decide(message, row, row.state, began)
            return False
        first = self._recent.find(message.message_id) or first
        if first is None or fingerprint is None or not first.fingerprint:
            return False
        if first.fingerprint == fingerprint:
            return True
        self._decide(message, first, "unknown", began)  # it is answered 422, without a state
        return False

    def _decide(
        self, message: Submission, first: StoredAnswer | Remembered, state: AckState, began: int
    ) -> None:
        message.verdict = Stored(first.accepted_at, first.fingerprint, first.correlation_id, state)
        self._checked.inc()
        if message.trace is not None:
            message.trace.checked(began, time.time_ns())

    async def _ask(self, waiting: Waiting[_Known]) -> None:
        try:
            rows = await self._row_lookup.answers(list(waiting)) or {}
            first = await self._recall([one for one in waiting if one not in rows])
            for message_id, row in list(rows.items()):
                if not self._row_lookup.may_answer(row):
                    first[message_id] = remembered(rows.pop(message_id))
        except PersistenceError:  # not an outage; the group commit asks again
            _log.exception("Look for repeats failed; contents are uploaded")
            return
        for message_id, future in waiting.items():
            future.set_result(_Known(rows.get(message_id), first.get(message_id)))

    async def _recall(self, ids: Sequence[str]) -> dict[str, Remembered]:
        if not ids or not self._transport.features.remembers:
            return {}
        try:
            found = await answer(self._transport.recall(ids), within=_PATIENCE)
        except (TransportError, TimeoutError):
            return {}  # the append will see this failure as well
        return {one: first for one, first in zip(ids, found, strict=True) if first is not None}
