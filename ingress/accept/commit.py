"""What one group commit does: one question to PostgreSQL, then one append for what is new.

::

    tick ──► rows there already?  ──► answered with the first one's id and time
                   │ no
                   ├─ queued conversations ──► Transport.publish, all in one call
                   └─ direct conversations ──► ingress.accept.direct
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from ingress.accept.direct import Direct
from ingress.accept.group_commit import Decide
from ingress.accept.row_lookup import RowLookup
from ingress.accept.submission import AnySubmission, Stored, Submission
from ingress.schema.problems import LOG_UNAVAILABLE, OUTCOME_UNKNOWN, Problem
from ingress.schema.responses import State
from otel.metrics import Metrics
from persistence.metrics import IdempotencyMetrics
from persistence.store.lookup import StoredAnswer
from transport.clock import now
from transport.contract import Appended, Remembered, Transport
from transport.errors import TransportError, TransportUnavailable

__all__ = ["Acceptance"]

_RETRY_AFTER = {"Retry-After": "2"}
_log = structlog.get_logger(__name__)


class Acceptance:
    """Commits ticks of messages and receipts."""

    def __init__(
        self, *, transport: Transport, known: RowLookup, direct: Direct | None, metrics: Metrics
    ) -> None:
        self._transport = transport
        self._known = known
        self._direct = direct
        self._checked = metrics.of(IdempotencyMetrics).requests.labels("ingress")
        self._failing = False

    async def commit(self, tick: list[AnySubmission], decide: Decide) -> None:
        """Give every submission of ``tick`` its verdict; the order of ``tick`` is the log's."""
        ids = [one.message_id for one in tick if isinstance(one, Submission)]
        self._checked.inc(len(ids))
        traces = [one.trace for one in tick if one.trace is not None]
        began = time.time_ns() if traces else 0
        known = await self._known.answers(ids)
        if traces:
            ended = time.time_ns()
            for trace in traces:
                trace.checked(began, ended)
        new: list[AnySubmission] = tick
        if known:
            new = []
            for one in tick:
                answer = known.get(one.message_id)
                if answer is None:
                    new.append(one)
                else:
                    decide(one, _stored(answer))
        if self._direct is None:
            await self._queue(new, decide)
            return
        direct, queued = await self._direct.split(new, decide)
        # The two touch different conversations, so they need no order between them.
        async with asyncio.TaskGroup() as both:
            both.create_task(self._queue(queued, decide))
            both.create_task(self._direct.persist(direct, decide))

    async def _queue(self, submissions: Sequence[AnySubmission], decide: Decide) -> None:
        if not submissions:
            return
        at = now()
        partitions = self._transport.partitions
        began = time.time_ns()
        envelopes = [one.seal(at, partitions) for one in submissions]
        for one, envelope in zip(submissions, envelopes, strict=True):
            if one.trace is not None:
                one.trace.created(began, time.time_ns(), envelope.partition)
        remembered: list[tuple[AnySubmission, Remembered]] = []
        failure: TransportError | None = None
        outcomes = await self._transport.publish(envelopes)
        for one, envelope, outcome in zip(submissions, envelopes, outcomes, strict=True):
            if isinstance(outcome, Appended):
                correlation_id = envelope.headers["correlationId"]
                decide(one, Stored(at, envelope.fingerprint, correlation_id, "pending", fresh=True))
            elif isinstance(outcome, Remembered):
                remembered.append((one, outcome))
            else:
                failure = outcome
                decide(one, failed(outcome))
        self._note(failure, len(submissions))
        if remembered:
            await self._repeat(remembered, decide)

    async def _repeat(
        self, repeats: Sequence[tuple[AnySubmission, Remembered]], decide: Decide
    ) -> None:
        """Answer what the log remembers, in the state in which it is now."""
        ids = [one.message_id for one, _ in repeats if isinstance(one, Submission)]
        rows = await self._known.answers(ids)
        lost = await self._known.dead_lettered([one for one in ids if one not in rows])
        for one, first in repeats:
            row = rows.get(one.message_id)
            state: State = "dead_lettered" if one.message_id in lost else "pending"
            decide(one, _stored(row) if row else _remembered(first, state))

    def _note(self, failure: TransportError | None, submissions: int) -> None:
        """Log the first failure and the recovery, not every tick of an outage."""
        if failure is not None and not self._failing:
            _log.warning("append_failed", error=str(failure), messages=submissions)
        elif failure is None and self._failing:
            _log.info("append_recovered")
        self._failing = failure is not None


def failed(error: TransportError) -> Problem:
    """Return the answer for a message whose append failed."""
    if isinstance(error, TransportUnavailable):
        return Problem(LOG_UNAVAILABLE, "The log can't be reached.", headers=_RETRY_AFTER)
    return Problem(
        OUTCOME_UNKNOWN,
        "The message was sent to the log and no answer came. Retry with the same key.",
        headers=_RETRY_AFTER,
    )


def _remembered(first: Remembered, state: State) -> Stored:
    return Stored(first.accepted_at, first.fingerprint, first.correlation_id, state)


def _stored(answer: StoredAnswer) -> Stored:
    return Stored(answer.accepted_at, answer.fingerprint, answer.correlation_id, "persisted")
