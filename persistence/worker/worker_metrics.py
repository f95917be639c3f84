"""A worker's metrics and log lines of each batch. Content never appears; ids and counts do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import structlog

from otel.latency import exemplar_of
from otel.metrics import Metrics
from persistence.metrics import IdempotencyMetrics, PersistenceMetrics
from persistence.store.batch import PositionedEvent
from persistence.worker.bisect import BatchOutcome
from persistence.worker.decoding import trace_id_of
from transport.contract import DeadLetter
from transport.envelope import HEADER_CORRELATION_ID, HEADER_MESSAGE_ID, Message

__all__ = ["WorkerMetrics"]

_log = structlog.get_logger(__name__)


class WorkerMetrics:
    """Counts in batches: label children are looked up once, and incremented once per batch."""

    def __init__(self, metrics: Metrics) -> None:
        records, keys = metrics.of(PersistenceMetrics), metrics.of(IdempotencyMetrics)
        self._persisted = records.processed.labels("persisted")
        self._duplicate = records.processed.labels("duplicate")
        self._error = records.processed.labels("error")
        self._dead_lettered = records.processed.labels("dead_lettered")
        self._hits = keys.hits.labels("persist")
        self._requests = keys.requests.labels("persist")
        self._reasons = records.dead_letters
        self._processing = records.processing
        self._end_to_end = records.end_to_end

    def written(self, batch: Sequence[PositionedEvent], outcome: BatchOutcome) -> None:
        """Count a batch that is committed."""
        persisted, duplicates = len(outcome.persisted), len(outcome.duplicates)
        self._requests.inc(len(batch))
        if persisted:
            self._persisted.inc(persisted)
            arrived = time.time()
            # Of two machines' clocks: where ours is behind the ingress', as short as can be.
            ages = [max(0.0, arrived - _accepted(batch[index])) for index in outcome.persisted]
            traces = (batch[index].trace_id for index in outcome.persisted)
            both = zip(ages, traces, strict=True)
            traced = next(((age, trace) for age, trace in both if trace is not None), None)
            self._end_to_end.observe_all(ages, traced=traced)
            _say("Persisted", batch, outcome.persisted)
        if duplicates:
            self._duplicate.inc(duplicates)
            self._hits.inc(duplicates)
            _say("Idempotent: persisted earlier, no new row", batch, outcome.duplicates)

    def refused(self) -> None:
        """Count one attempt on a single record that PostgreSQL refused."""
        self._error.inc()

    def dead_lettered(self, letters: Sequence[DeadLetter]) -> None:
        """Count and name the records that are dead letters now."""
        self._dead_lettered.inc(len(letters))
        for letter in letters:
            record = letter.record
            trace_id = trace_id_of(record)
            self._reasons.labels(letter.reason.value).inc(exemplar=exemplar_of(trace_id))
            _log.warning(
                "Failed: the record is a dead letter now; see 'crossfade dlq list'",
                reason=letter.reason.value,
                error=letter.error,
                attempts=letter.attempts,
                partition=record.partition,
                offset=record.offset,
                message_id=_header(letter, HEADER_MESSAGE_ID),
                correlation_id=_header(letter, HEADER_CORRELATION_ID),
                trace_id=trace_id,
            )

    def acknowledged(self, records: int, seconds: float, *, trace_id: str | None) -> None:
        """Count a batch that took ``seconds`` from its delivery to its acknowledgement.

        ``trace_id`` is the trace of one of its records, where one is sampled.
        """
        self._processing.observe(seconds, records, trace_id=trace_id)


def _accepted(positioned: PositionedEvent) -> float:
    event = positioned.event
    text = event.accepted_at if isinstance(event, Message) else event.at
    return datetime.fromisoformat(text).timestamp()


def _say(what: str, batch: Sequence[PositionedEvent], indexes: Sequence[int]) -> None:
    first = batch[indexes[0]]
    if len(indexes) > 1:
        _log.info(what, count=len(indexes), transport=first.transport, partition=first.partition)
        return
    _log.info(
        what,
        count=1,
        transport=first.transport,
        partition=first.partition,
        offset=first.offset,
        message_id=first.event.message_id,
        correlation_id=first.event.correlation_id,
        trace_id=first.trace_id,
    )


def _header(letter: DeadLetter, name: str) -> str | None:
    value = letter.record.headers.get(name)
    return value.decode("utf-8", "replace") if value else None
