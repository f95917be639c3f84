"""Put records that a claim hands over straight into the next statement.

This is the fast path. Records with a problem (one can't be stored, a conflict, an outage, a lost
fence) are refused: the log delivers them again, to ``PartitionWorker``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from otel.tracing.deliveries import UNTRACED, Deliveries, Delivery
from persistence.store.batch import Fence, Written
from persistence.store.group_writer import GroupWriter, PendingBatch
from persistence.worker.batch.contents import has_payload
from persistence.worker.batch.decoding import decode_all
from persistence.worker.batch.worker_metrics import WorkerMetrics
from transport.contract import WORKER_GROUP, HandingClaim, Record

__all__ = ["WriterFeed"]

# Why a batch was not acknowledged, for its trace, if it has no error of its own.
_CONFLICT = "Conflict"
_WITHDRAWN = "Withdrawn"
_NOT_ACKNOWLEDGED = "NotAcknowledged"


class WriterFeed:
    """Feeds the group writer with the records that one claim hands over."""

    def __init__(
        self,
        claim: HandingClaim,
        transport: str,
        fence: Fence,
        *,
        group_writer: GroupWriter,
        metrics: WorkerMetrics,
        deliveries: Deliveries,
    ) -> None:
        self._claim = claim
        self._transport = transport
        self._fence = fence
        self._group_writer = group_writer
        self._metrics = metrics
        self._deliveries = deliveries
        self._batches: deque[_Batch] = deque()

    def take(self, records: Sequence[Record]) -> bool:
        """Hand records to the group writer, if it has room; see ``transport.contract.Taker``."""
        if not self._group_writer.has_room(sum([len(record.body) for record in records])):
            return False  # the records wait in the log, not in this process's memory
        trace = self._deliveries.begin(self._transport, WORKER_GROUP, records, time.time_ns())
        positioned, _, undecodable = decode_all(records, self._transport, trace.begun)
        if undecodable or any(map(has_payload, positioned)):
            return False  # ``PartitionWorker`` fetches content
        last = self._batches[-1] if self._batches else None
        if last is None or not self._group_writer.extend(last.part, positioned):
            last = _Batch()
            last.part = self._group_writer.hand_in(
                positioned, self._fence, last.attempted, self._ended
            )
            self._batches.append(last)
        if trace is not UNTRACED:
            trace.named((p.offset, p.event.message_id, p.event.correlation_id) for p in positioned)
            last.traces.append(trace)
        return True

    def _ended(self, outcome: Written | Exception) -> None:
        batch = self._batches.popleft()
        records = batch.part.batch.records
        if isinstance(outcome, Written):
            self._metrics.written(records, outcome)
            for trace in batch.traces:
                trace.written("persisted", (records[i].offset for i in outcome.persisted))
                trace.written("duplicate", (records[i].offset for i in outcome.duplicates))
        if isinstance(outcome, Exception):
            self._refuse(batch, type(outcome).__name__)
        elif outcome.conflicts:
            self._refuse(batch, _CONFLICT)
        else:
            self._metrics.acknowledged(
                len(records), time.perf_counter() - batch.began, trace_id=batch.trace_id
            )
            self._claim.passed(records[-1].offset, batch.ack_ended if batch.traces else None)

    def _refuse(self, batch: _Batch, why: str) -> None:
        batch.not_acknowledged(why)
        while self._batches:  # later ones must not overtake it
            later = self._batches.popleft()
            self._group_writer.withdraw(later.part)
            later.not_acknowledged(_WITHDRAWN)
        self._claim.refused()


class _Batch:
    """The rows of one pending batch, and the traces of those that are sampled."""

    __slots__ = ("began", "part", "traces")

    part: PendingBatch

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.traces: list[Delivery] = []

    @property
    def trace_id(self) -> str | None:
        return self.traces[0].trace_id if self.traces else None

    def attempted(self, began: int, error: BaseException | None) -> None:
        for trace in self.traces:
            trace.attempted((p.offset for p in self.part.batch.records), began, error)

    def ack_ended(self, began: int | None) -> None:
        if began is None:
            self.not_acknowledged(_NOT_ACKNOWLEDGED)
            return
        for trace in self.traces:
            trace.acknowledged(began)

    def not_acknowledged(self, why: str) -> None:
        for trace in self.traces:
            trace.not_acknowledged(why)
