"""A worker's metrics and log lines for its batches: ids and counts, never content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

from otel.latency import exemplar_of
from otel.metrics import Metrics
from persistence.metrics import IdempotencyMetrics, PersistenceMetrics
from persistence.store.batch import PositionedEvent, Written
from persistence.worker.batch.batch_log import BatchLog
from persistence.worker.batch.bisect import BatchOutcome
from persistence.worker.batch.decoding import trace_id_of
from persistence.worker.batch.letter_log import LetterLog
from transport.contract import DeadLetter
from transport.message.envelope import Message

__all__ = ["WorkerMetrics"]


class WorkerMetrics:
    """Counts in batches: label children are looked up once, and incremented once per batch.

    A statement's outcome comes as one batch for each partition, all in the same turn of the event
    loop. They are counted and logged together.
    """

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
        self._persisted_log = BatchLog("Persisted", "persisted")
        self._duplicate_log = BatchLog("Idempotent: persisted earlier, no new row", "duplicate")
        self._letter_log = LetterLog()
        # Collected in this turn of the event loop.
        self._asked = 0
        self._new_rows: list[PositionedEvent] = []
        self._old_rows: list[PositionedEvent] = []

    def written(self, batch: Sequence[PositionedEvent], outcome: Written | BatchOutcome) -> None:
        """Count a batch that is committed, after this turn of the event loop."""
        if not batch:
            return
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._count)
        self._asked += len(batch)
        if len(outcome.persisted) == len(batch):  # as nearly always
            self._new_rows += batch
            return
        self._new_rows += [batch[index] for index in outcome.persisted]
        self._old_rows += [batch[index] for index in outcome.duplicates]

    def _count(self) -> None:
        persisted, self._new_rows = self._new_rows, []
        duplicates, self._old_rows = self._old_rows, []
        self._requests.inc(self._asked)
        self._asked = 0
        if persisted:
            self._persisted.inc(len(persisted))
            arrived = time.time()
            # The times are of two machines: if our clock is behind the ingress', the age counts as
            # 0.
            ages = [max(0.0, arrived - _accepted(positioned)) for positioned in persisted]
            traces = (positioned.trace_id for positioned in persisted)
            both = zip(ages, traces, strict=True)
            traced = next(((age, trace) for age, trace in both if trace is not None), None)
            self._end_to_end.observe_all(ages, traced=traced)
            self._persisted_log.add(persisted)
        if duplicates:
            self._duplicate.inc(len(duplicates))
            self._hits.inc(len(duplicates))
            self._duplicate_log.add(duplicates)

    def tell(self) -> None:
        """Count and log everything collected so far, because the worker stops."""
        self._count()
        self._persisted_log.tell()
        self._duplicate_log.tell()
        self._letter_log.tell()

    def refused(self) -> None:
        """Count one attempt on a single record that PostgreSQL refused."""
        self._error.inc()

    def dead_lettered(self, letters: Sequence[DeadLetter]) -> None:
        """Count and log the records that are dead letters now."""
        self._dead_lettered.inc(len(letters))
        for letter in letters:
            exemplar = exemplar_of(trace_id_of(letter.record))
            self._reasons.labels(letter.reason.value).inc(exemplar=exemplar)
        self._letter_log.add(letters)

    def acknowledged(self, records: int, seconds: float, *, trace_id: str | None) -> None:
        """Count a batch that took ``seconds`` from its delivery to its acknowledgement.

        ``trace_id`` is the trace of one of its records, where one is sampled.
        """
        self._processing.observe(seconds, records, trace_id=trace_id)


def _accepted(positioned: PositionedEvent) -> float:
    event = positioned.event
    text = event.accepted_at if isinstance(event, Message) else event.at
    return datetime.fromisoformat(text).timestamp()
