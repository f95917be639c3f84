"""One group commit: one query to PostgreSQL, then one append of the new messages.

The steps of a tick:

    tick ──► has a row already,   ──► answered with the first message's id and time
             which may answer?
                   │ no
             accepted with another body? ──► refused
                   │ no
                   ├─ queued conversations ──► Transport.publish, all in one call
                   └─ direct conversations ──► ingress.accept.direct
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

import structlog

from ingress.accept.commit_queue import Decide
from ingress.accept.direct import Direct
from ingress.accept.recent_keys import RecentKeys
from ingress.accept.row_lookup import RowLookup, remembered
from ingress.accept.submission import AnySubmission, Stored, Submission
from ingress.schema.problems import LOG_UNAVAILABLE, OUTCOME_UNKNOWN, Problem
from ingress.schema.responses import AckState
from ingress.schema.retry_after import AWAY
from otel.metrics import Metrics
from persistence.metrics import IdempotencyMetrics
from persistence.store.lookup import StoredAnswer
from transport.clock import now
from transport.contract import Appended, Envelope, Outcome, Remembered, Transport
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.message.envelope import reseal
from transport.outage_watch import OutageWatch

__all__ = ["TickCommitter"]

_Repeat = tuple[AnySubmission, Remembered]
"""A message that was accepted before, and its first acceptance."""
_TAKES_NONE = "The log takes no messages now. Send the message again, with the same key."
_log = structlog.get_logger(__name__)


class TickCommitter:
    """Commits ticks: messages and receipts that are looked up and appended together.

    Args:
        transport: The log to append to.
        row_lookup: Finds messages that have rows.
        recent: The messages that were accepted before, and may have no row yet.
        direct: Persists the messages of direct conversations; ``None`` if all are queued.
        metrics: The process's metrics.
        outages: Decides which failed appends are logged.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        row_lookup: RowLookup,
        recent: RecentKeys,
        direct: Direct | None,
        metrics: Metrics,
        outages: OutageWatch | None = None,
    ) -> None:
        self._transport = transport
        self._row_lookup = row_lookup
        self._recent = recent
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
        known: dict[str, Remembered] = {}
        refused: list[_Repeat] = []
        recent = self._recent.among(ids)
        if rows or recent:
            new = []
            for submission in tick:
                identifier = submission.message_id
                row = rows.get(identifier) if rows else None
                if row is not None and self._decides(row, submission):
                    decide(submission, self._stored(identifier, row))
                    continue
                found = self._recent.find(identifier) if identifier in recent else None
                first = remembered(row) if row is not None else found
                if first is None:
                    new.append(submission)
                elif rows is None and self._row_was_seen(identifier):
                    decide(submission, _remembered(first, "persisted"))
                elif first.fingerprint != submission.fingerprint():
                    refused.append((submission, first))
                else:
                    known[identifier] = first
                    new.append(submission)
        if self._direct is None:
            await self._queue(new, decide, known, refused)
            return
        direct, queued = await self._direct.split(new, decide)
        # The two have different conversations, so neither has to come first.
        async with asyncio.TaskGroup() as both:
            both.create_task(self._queue(queued, decide, known, refused))
            both.create_task(self._direct.persist(direct, decide))

    def _decides(self, row: StoredAnswer, submission: AnySubmission) -> bool:
        """Return whether a row decides about a message: it may answer, or has another body."""
        return self._row_lookup.may_answer(row) or row.fingerprint != submission.fingerprint()

    def _row_was_seen(self, identifier: str) -> bool:
        """Return whether a row was seen that may answer while PostgreSQL does not."""
        return self._row_lookup.may_answer_from_memory and self._recent.has_row(identifier)

    async def _queue(
        self,
        submissions: Sequence[AnySubmission],
        decide: Decide,
        known: Mapping[str, Remembered],
        refused: Sequence[_Repeat],
    ) -> None:
        """Append ``submissions``, and call ``decide`` for each, and for those that are ``refused``.

        A repeat of the same body (``known``) is appended again, with the bytes of the first: only
        an append is confirmed by replicas and by a second log, and found again by a worker if
        PostgreSQL loses the row.
        """
        repeats = list(refused)
        if submissions:
            at = now()
            envelopes = self._sealed(submissions, at, known)
            outcomes = await self._transport.publish(envelopes)
            repeats += self._appended(
                zip(submissions, envelopes, outcomes, strict=True), known, decide
            )
        if repeats:
            await self._repeat(repeats, decide)

    def _sealed(
        self, submissions: Sequence[AnySubmission], at: str, known: Mapping[str, Remembered]
    ) -> Sequence[Envelope]:
        """Return the envelopes to append; those of repeats have the bytes of the first."""
        partitions = self._transport.partitions
        began = time.time_ns()
        envelopes = [submission.seal(at, partitions) for submission in submissions]
        if known:
            envelopes = [
                reseal(envelope, known[envelope.message_id])
                if envelope.message_id in known
                else envelope
                for envelope in envelopes
            ]
        for submission, envelope in zip(submissions, envelopes, strict=True):
            if submission.trace is not None:
                submission.trace.created(began, time.time_ns(), envelope.partition)
        return envelopes

    def _appended(
        self,
        appends: Iterable[tuple[AnySubmission, Envelope, Outcome]],
        known: Mapping[str, Remembered],
        decide: Decide,
    ) -> list[_Repeat]:
        """Decide new messages and those that were not appended, and return the repeats."""
        repeats: list[_Repeat] = []
        failures: list[TransportError] = []
        for submission, envelope, outcome in appends:
            identifier = submission.message_id
            if isinstance(outcome, Appended):
                if identifier in known:
                    repeats.append((submission, known[identifier]))
                    continue
                at, correlation_id = envelope.accepted_at, envelope.headers["correlationId"]
                self._recent.add(identifier, envelope.fingerprint, at, correlation_id)
                decide(
                    submission,
                    Stored(at, envelope.fingerprint, correlation_id, "pending", fresh=True),
                )
            elif isinstance(outcome, Remembered):
                first = outcome
                self._recent.add(
                    identifier, first.fingerprint, first.accepted_at, first.correlation_id
                )
                repeats.append((submission, first))
            else:
                failures.append(outcome)
                decide(submission, failed(outcome))
        self._note(failures)
        return repeats

    async def _repeat(self, repeats: Sequence[_Repeat], decide: Decide) -> None:
        """Answer messages that were accepted before, with their present state."""
        ids = [
            submission.message_id for submission, _ in repeats if isinstance(submission, Submission)
        ]
        rows = await self._row_lookup.answers(ids)
        lost = None
        if rows is not None:
            lost = await self._row_lookup.dead_lettered([id_ for id_ in ids if id_ not in rows])
        for submission, first in repeats:
            identifier = submission.message_id
            if rows and (row := rows.get(identifier)) is not None:
                decide(submission, self._stored(identifier, row))
                continue
            state: AckState = "unknown"
            if lost is not None:
                state = "dead_lettered" if identifier in lost else "pending"
            elif rows is None and self._recent.has_row(identifier):
                state = "persisted"
            decide(submission, _remembered(first, state))

    def _stored(self, identifier: str, row: StoredAnswer) -> Stored:
        """Return the verdict by a message's row or tombstone, and remember it."""
        if row.fingerprint:
            has_row = row.state == "persisted"
            self._recent.add(
                identifier, row.fingerprint, row.accepted_at, row.correlation_id, row=has_row
            )
        else:
            self._recent.forget(identifier)  # erased
        return Stored(row.accepted_at, row.fingerprint, row.correlation_id, row.state)

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


def _remembered(first: Remembered, state: AckState) -> Stored:
    return Stored(first.accepted_at, first.fingerprint, first.correlation_id, state)
