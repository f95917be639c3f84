"""One group commit: one query to PostgreSQL, then one append of the new messages.

The steps of a tick:

    tick ──► has a row already?   ──► answered with the first message's id and time
                   │ no
                   ├─ queued conversations ──► Transport.publish, all in one call
                   └─ direct conversations ──► ingress.accept.direct
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from ingress.accept.commit_queue import Decide
from ingress.accept.direct import Direct
from ingress.accept.row_lookup import RowLookup
from ingress.accept.submission import AnySubmission, Stored, Submission
from ingress.schema.problems import LOG_UNAVAILABLE, OUTCOME_UNKNOWN, Problem
from ingress.schema.responses import State
from ingress.schema.retry_after import AWAY
from otel.metrics import Metrics
from persistence.metrics import IdempotencyMetrics
from persistence.store.lookup import StoredAnswer
from transport.clock import now
from transport.contract import Appended, Remembered, Transport
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.outage_watch import OutageWatch

__all__ = ["TickCommitter"]

_TAKES_NONE = "The log takes no messages now. Send the message again, with the same key."
_log = structlog.get_logger(__name__)


class TickCommitter:
    """Commits ticks: messages and receipts that are looked up and appended together.

    Args:
        transport: The log to append to.
        row_lookup: Finds messages that have rows.
        direct: Persists the messages of direct conversations; ``None`` if all are queued.
        metrics: The process's metrics.
        outages: Decides which failed appends are logged.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        row_lookup: RowLookup,
        direct: Direct | None,
        metrics: Metrics,
        outages: OutageWatch | None = None,
    ) -> None:
        self._transport = transport
        self._row_lookup = row_lookup
        self._direct = direct
        self._checked = metrics.of(IdempotencyMetrics).requests.labels("ingress")
        self._outages = outages or OutageWatch()

    async def commit(self, tick: list[AnySubmission], decide: Decide) -> None:
        """Commit a tick, and call ``decide`` with each submission's verdict.

        Submissions are appended in the order of ``tick``.
        """
        ids = [submission.message_id for submission in tick if isinstance(submission, Submission)]
        self._checked.inc(len(ids))
        traces = [submission.trace for submission in tick if submission.trace is not None]
        began = time.time_ns() if traces else 0
        rows = await self._row_lookup.answers(ids)
        if traces:
            ended = time.time_ns()
            for trace in traces:
                trace.checked(began, ended)
        new: list[AnySubmission] = tick
        if rows:
            new = []
            for submission in tick:
                answer = rows.get(submission.message_id)
                if answer is None:
                    new.append(submission)
                else:
                    decide(submission, _stored(answer))
        if self._direct is None:
            await self._queue(new, decide)
            return
        direct, queued = await self._direct.split(new, decide)
        # The two have different conversations, so neither has to come first.
        async with asyncio.TaskGroup() as both:
            both.create_task(self._queue(queued, decide))
            both.create_task(self._direct.persist(direct, decide))

    async def _queue(self, submissions: Sequence[AnySubmission], decide: Decide) -> None:
        if not submissions:
            return
        at = now()
        partitions = self._transport.partitions
        began = time.time_ns()
        envelopes = [submission.seal(at, partitions) for submission in submissions]
        for submission, envelope in zip(submissions, envelopes, strict=True):
            if submission.trace is not None:
                submission.trace.created(began, time.time_ns(), envelope.partition)
        remembered: list[tuple[AnySubmission, Remembered]] = []
        failures: list[TransportError] = []
        outcomes = await self._transport.publish(envelopes)
        for submission, envelope, outcome in zip(submissions, envelopes, outcomes, strict=True):
            if isinstance(outcome, Appended):
                correlation_id = envelope.headers["correlationId"]
                decide(
                    submission,
                    Stored(at, envelope.fingerprint, correlation_id, "pending", fresh=True),
                )
            elif isinstance(outcome, Remembered):
                remembered.append((submission, outcome))
            else:
                failures.append(outcome)
                decide(submission, failed(outcome))
        self._note(failures)
        if remembered:
            await self._repeat(remembered, decide)

    async def _repeat(
        self, repeats: Sequence[tuple[AnySubmission, Remembered]], decide: Decide
    ) -> None:
        """Answer the messages that the log remembers, with their present state."""
        ids = [
            submission.message_id for submission, _ in repeats if isinstance(submission, Submission)
        ]
        rows = await self._row_lookup.answers(ids)
        lost = await self._row_lookup.dead_lettered([id_ for id_ in ids if id_ not in rows])
        for submission, first in repeats:
            row = rows.get(submission.message_id)
            state: State = "dead_lettered" if submission.message_id in lost else "pending"
            decide(submission, _stored(row) if row else _remembered(first, state))

    def _note(self, failures: Sequence[TransportError]) -> None:
        """Log the beginning and the end of an outage, and not every failed tick."""
        if failures:
            if self._outages.failed(len(failures)):
                _log.warning(
                    "Append failed: clients are answered 503 and retry with the same key",
                    error=str(failures[-1]),
                    messages=len(failures),
                )
        elif past := self._outages.succeeded():
            _log.info(
                "Append recovered: the log takes messages again",
                seconds=past.seconds,
                messages=past.failures,
            )


def failed(error: TransportError) -> Problem:
    """Return the problem (503) for a message whose append failed."""
    if isinstance(error, AppendUnknown):
        return Problem(
            OUTCOME_UNKNOWN,
            "The message was sent to the log and no answer came. Retry with the same key.",
            headers=AWAY,
        )
    is_away = isinstance(error, TransportUnavailable)
    # A server that is full, or waits for its replicas, can be reached.
    detail = _TAKES_NONE if is_away else "The log refuses the message."
    return Problem(LOG_UNAVAILABLE, detail, headers=AWAY)


def _remembered(first: Remembered, state: State) -> Stored:
    return Stored(first.accepted_at, first.fingerprint, first.correlation_id, state)


def _stored(answer: StoredAnswer) -> Stored:
    return Stored(answer.accepted_at, answer.fingerprint, answer.correlation_id, answer.state)
