"""Direct persistence: messages are inserted before the answer, without the log.

The canary and rollback scenario 2 use it. If a conversation still has records without a row in the
log, its messages are queued behind them instead (``ingress.accept.backlog``). Every insert, a
worker's or ours, takes the partition's lock in PostgreSQL. So every conversation stays in order
while ``INGRESS_MODE`` or ``INGRESS_QUEUE_PERCENT`` changes under traffic, also with old and new
processes side by side:

* queued, then direct: either the queued message is settled, and so committed, or the direct
  message is queued behind it;
* direct, then queued: the direct message was committed before it was answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from ingress.accept.backlog import Backlog
from ingress.accept.canary import queued
from ingress.accept.commit_queue import Decide
from ingress.accept.submission import AnySubmission, Stored, Submission, Verdict
from ingress.schema.problems import (
    DATABASE_UNAVAILABLE,
    INVALID,
    LOG_UNAVAILABLE,
    OUTCOME_UNKNOWN,
    Problem,
)
from ingress.schema.retry_after import AWAY
from ingress.settings import IngressSettings
from otel.tracing.context import sampled_trace_id
from persistence.database.pool import Pool
from persistence.errors import Outage, Rejected
from persistence.reads.messages import receipt_at
from persistence.store.batch import PositionedEvent, Written
from persistence.store.lookup import StoredAnswer, answers
from persistence.store.reserved_connections import ReservedConnections
from persistence.store.writer import Writer
from transport.clock import now
from transport.contract import Transport
from transport.errors import TransportError
from transport.outage_watch import OutageWatch

__all__ = ["DIRECT", "Direct"]

DIRECT = "direct"
"""The ``transport`` column of a row that was persisted directly."""
_log = structlog.get_logger(__name__)


class Direct:
    """Persists the messages of direct conversations that have no backlog.

    Args:
        transport: The log that workers read. Conversations with a backlog there are queued.
        pool: Connections to PostgreSQL, to answer repeats.
        writer: Inserts rows, as the workers' writer does.
        settings: Says which conversations are direct.
    """

    def __init__(
        self, *, transport: Transport, pool: Pool, writer: Writer, settings: IngressSettings
    ) -> None:
        self._partitions = transport.partitions
        self._pool = pool
        self._rows = ReservedConnections(pool, most=0)
        self._writer = writer
        self._percent = settings.ingress_queue_percent if settings.ingress_mode == "queue" else 0
        self._timeout = settings.ingress_direct_timeout_ms / 1000
        self._backlog = Backlog(
            transport,
            pool,
            limit=settings.ingress_backlog_records,
            timeout_seconds=self._timeout / 2,  # half of it is left to the log
        )
        self._unread, self._unwritten = OutageWatch(), OutageWatch()

    async def split(
        self, submissions: Sequence[AnySubmission], decide: Decide
    ) -> tuple[list[AnySubmission], list[AnySubmission]]:
        """Split submissions into those to persist directly and those to queue, each in order.

        If it is unknown whether conversations have a backlog, all direct messages are refused.
        """
        direct = [submission for submission in submissions if self._goes_direct(submission)]
        queue = [submission for submission in submissions if not self._goes_direct(submission)]
        places = [
            (submission.partition(self._partitions), submission.request.conversation_id)
            for submission in direct
            if isinstance(submission, Submission)
        ]
        if not places:
            return direct, queue
        try:
            async with asyncio.timeout(self._timeout):
                behind = await self._backlog.behind(places)
        except Outage as error:
            self._refuse(direct, error, decide)
            return [], queue
        except (TransportError, TimeoutError) as error:
            if self._unread.failed(len(direct)):
                _log.warning(
                    "Backlog unknown: direct messages are refused with 503 until the log answers",
                    error=str(error),
                    messages=len(direct),
                )
            detail = "The log can't say whether earlier messages of the conversation wait in it."
            for submission in direct:
                decide(submission, Problem(LOG_UNAVAILABLE, detail, headers=AWAY))
            return [], queue
        if past := self._unread.succeeded():
            _log.info(
                "Backlog known again: direct messages are accepted",
                seconds=past.seconds,
                messages=past.failures,
            )
        held = [submission for submission in direct if _conversation(submission) in behind]
        free = [submission for submission in direct if _conversation(submission) not in behind]
        return free, [*queue, *held]

    def _goes_direct(self, submission: AnySubmission) -> bool:
        if isinstance(submission, Submission):
            return not queued(submission.request.conversation_id, self._percent)
        # A receipt can't overtake a message that has its row. The receipt's conversation is not
        # known here, so the canary queues receipts; direct mode needs no conversation.
        return self._percent == 0 and submission.persisted

    async def persist(self, submissions: Sequence[AnySubmission], decide: Decide) -> None:
        """Insert ``submissions`` in their order, and call ``decide`` with each one's verdict."""
        if not submissions:
            return
        at = now()
        try:
            written = await self._write(submissions, at)
        except Rejected:
            await self._one_by_one(submissions, at, decide)
        except (Outage, TimeoutError) as error:
            self._refuse(submissions, error, decide)
        else:
            if past := self._unwritten.succeeded():
                _log.info(
                    "Direct insert works again",
                    seconds=past.seconds,
                    messages=past.failures,
                )
            await self._answer(submissions, at, written, decide)

    async def _write(self, submissions: Sequence[AnySubmission], at: str) -> Written:
        batch = [
            PositionedEvent(
                submission.event(at),
                DIRECT,
                submission.partition(self._partitions),
                "",
                sampled_trace_id(submission.traceparent),
            )
            for submission in submissions
        ]
        traces = [
            (submission.trace, at.partition)
            for submission, at in zip(submissions, batch, strict=True)
        ]
        began, failure = time.time_ns(), None
        try:
            async with asyncio.timeout(self._timeout):
                return await self._writer.write(batch, None)
        except BaseException as error:
            failure = error
            raise
        finally:
            for trace, partition in traces:
                if trace is not None:
                    trace.created(began, began, partition)
                    trace.inserted(began, time.time_ns(), failure)

    async def _one_by_one(
        self, submissions: Sequence[AnySubmission], at: str, decide: Decide
    ) -> None:
        """Insert each submission alone, so that only the one that PostgreSQL refuses fails."""
        for submission in submissions:
            try:
                written = await self._write([submission], at)
            except Rejected as error:
                decide(
                    submission, Problem(INVALID, f"PostgreSQL can't store this message: {error}")
                )
            except (Outage, TimeoutError) as error:
                self._refuse([submission], error, decide)
            else:
                await self._answer([submission], at, written, decide)

    async def _answer(
        self, submissions: Sequence[AnySubmission], at: str, written: Written, decide: Decide
    ) -> None:
        for index in written.persisted:
            submission = submissions[index]
            stored = Stored(
                at, submission.fingerprint(), submission.correlation_id, "persisted", fresh=True
            )
            decide(submission, stored)
        there = [submissions[index] for index in (*written.duplicates, *written.conflicts)]
        if there:
            await self._repeat(there, decide)

    async def _repeat(self, submissions: Sequence[AnySubmission], decide: Decide) -> None:
        """Answer messages that another request persisted between our look-up and our insert."""
        ids = [
            submission.message_id
            for submission in submissions
            if isinstance(submission, Submission)
        ]
        try:
            async with asyncio.timeout(self._timeout):
                rows = await answers(self._rows, ids, within=self._timeout)
                times = [await self._recorded(submission) for submission in submissions]
        except (Outage, TimeoutError) as error:
            self._refuse(submissions, error, decide)
            return
        for submission, at in zip(submissions, times, strict=True):
            decide(submission, _repeated_verdict(submission, rows.get(submission.message_id), at))

    async def _recorded(self, submission: AnySubmission) -> str | None:
        """Return the time at which a receipt was recorded; ``None`` for a message."""
        if isinstance(submission, Submission):
            return None
        receipt = submission.receipt
        return await receipt_at(self._pool, receipt.message_id, receipt.user_id, receipt.state)

    def _refuse(
        self, submissions: Sequence[AnySubmission], error: Exception, decide: Decide
    ) -> None:
        if self._unwritten.failed(len(submissions)):
            _log.warning(
                "Direct insert failed: clients are answered 503 and retry with the same key",
                error=str(error),
                messages=len(submissions),
            )
        detail = "The database did not answer. Retry with the same key."
        for submission in submissions:
            decide(submission, Problem(OUTCOME_UNKNOWN, detail, headers=AWAY))


def _conversation(submission: AnySubmission) -> str | None:
    return submission.request.conversation_id if isinstance(submission, Submission) else None


def _repeated_verdict(
    submission: AnySubmission, answer: StoredAnswer | None, receipt_at: str | None
) -> Verdict:
    if receipt_at is not None:
        return Stored(receipt_at, "", submission.correlation_id, "persisted")
    if answer is None:
        detail = "The row was there a moment ago and is gone."
        return Problem(DATABASE_UNAVAILABLE, detail, headers=AWAY)
    return Stored(answer.accepted_at, answer.fingerprint, answer.correlation_id, answer.state)
