"""The timeline of one message: accepted, appended, attempted, persisted, dead-lettered, redriven.

It is built from the row, the logs, the dead letters, the failed attempts and the receipts. Nothing
is stored for it while a message is processed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ingress.console.views import Step, Timeline
from ingress.messages import Dead, Found, Messages
from ingress.routes.messages import view
from ingress.routes.models import MessageView
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads.message_history import (
    Death,
    KeptReceipt,
    LogPosition,
    deaths_of,
    places_of,
    receipts_of,
)
from persistence.reads.messages import (
    MessageDeadLetter,
    StoredMessage,
    StoredPosition,
    StoredReceipt,
)
from persistence.reads.tombstones import Buried
from persistence.worker.batch.attempt_log import FailedAttempt, attempts_of
from transport.clock import timestamp
from transport.contract import Record, Topic, Transport
from transport.deadline import answer
from transport.errors import DecodeError, TransportError, one_line
from transport.lookup import record_at
from transport.message.envelope import Message, decode
from transport.shadow.origin import origin_of

__all__ = ["Timelines", "in_order"]

# The order of steps that have the same time.
_ORDER = (
    "accepted", "appended", "attempt", "pending", "persisted", "dead_lettered", "redriven",
    "discarded", "receipt", "archived", "erased",
)  # fmt: skip
_MILLISECOND = len("2026-11-24T20:18:19.123")


class _StoredHistory(NamedTuple):
    """The parts of a timeline that PostgreSQL has beside the message's row."""

    places: list[LogPosition]
    deaths: list[Death]
    attempts: list[FailedAttempt]
    receipts: list[KeptReceipt]


class Timelines:
    """Builds timelines of messages.

    Args:
        messages: Finds a message in any state.
        pool: Connections to PostgreSQL, for positions, failed attempts, dead letters, receipts.
        logs: The logs that this process can read, by name.
        trace_url: ``INGRESS_TRACE_URL``.
        timeout_seconds: The longest wait for PostgreSQL or a log.
    """

    def __init__(
        self,
        *,
        messages: Messages,
        pool: Pool,
        logs: Mapping[str, Transport],
        trace_url: str | None,
        timeout_seconds: float,
    ) -> None:
        self._messages = messages
        self._pool = pool
        self._logs = logs
        self._trace_url = trace_url
        self._timeout = timeout_seconds

    async def of(self, message_id: str) -> Timeline | None:
        """Return the timeline of a message, or ``None`` if the message is unknown.

        Raises:
            Problem: PostgreSQL does not answer, and the log does not have the message.
            TransportUnavailable: There is no row, and the log does not answer.
        """
        gaps: list[str] = []
        kept = await self._kept(message_id, gaps)
        found = await self._messages.find(message_id, content=True)
        if found is None and kept.deaths:
            found = _dead_lettered(kept.deaths[-1])
        if found is None:
            return None
        shown = view(message_id, found, self._trace_url, _receipts(kept.receipts))
        places = await self._places(message_id, shown, kept)
        steps = [
            *_accepted(shown),
            *_appended(shown, places, kept.deaths),
            *_attempts(kept.attempts),
            *_outcome(shown, found, places),
            *_deaths(kept.deaths, places),
            *_received(kept.receipts),
        ]
        steps = in_order(steps)
        positions = [StoredPosition(p.transport, p.partition, p.offset) for p in places]
        return Timeline(
            message=replace(shown, positions=positions),
            steps=steps,
            incomplete=f"Could not be asked: {'; '.join(gaps)}." if gaps else None,
        )

    async def _kept(self, message_id: str, gaps: list[str]) -> _StoredHistory:
        try:
            async with asyncio.timeout(self._timeout):
                return _StoredHistory(
                    await places_of(self._pool, message_id),
                    await deaths_of(self._pool, message_id),
                    await attempts_of(self._pool, message_id),
                    await receipts_of(self._pool, message_id),
                )
        except (Outage, TimeoutError) as error:
            gaps.append(f"PostgreSQL ({one_line(error, empty='no answer in time')})")
            return _StoredHistory([], [], [], [])

    async def _places(
        self, message_id: str, shown: MessageView, kept: _StoredHistory
    ) -> list[LogPosition]:
        """Return all known positions of a message, each with its time of append if known."""
        asked = {(p.transport, p.partition, p.offset) for p in shown.positions}
        asked |= {(death.transport, death.partition, death.offset) for death in kept.deaths}
        positions = {(p.transport, p.partition, p.offset): p for p in kept.places}
        # Look twice: a record of the first round may be a copy, which names its original's place.
        for _ in range(2):
            found = await asyncio.gather(
                *(self._look(message_id, *where) for where in sorted(asked - positions.keys()))
            )
            for place, record in found:
                positions[place.transport, place.partition, place.offset] = place
                origin = origin_of(record) if record else None
                if origin is not None:
                    asked.add((origin.transport, origin.partition, origin.offset))
        return sorted(positions.values(), key=lambda place: place.appended_at or "~")

    async def _look(
        self, message_id: str, name: str, partition: int, offset: str
    ) -> tuple[LogPosition, Record | None]:
        """Return a position with its time of append, and its record if the log still has it."""
        log = self._logs.get(name)
        if log is None or not 0 <= partition < log.partitions:
            return LogPosition(name, partition, offset, ""), None
        try:
            asking = record_at(log, Topic.MESSAGES, partition, offset)
            record = await answer(asking, within=self._timeout)
        except (TransportError, TimeoutError, ValueError):
            record = None
        if record is not None and not _is(record, message_id):
            record = None
        at = "" if record is None else timestamp(record.appended_at)
        return LogPosition(name, partition, offset, at), record


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Return the steps in the order in which they happened."""
    return sorted(steps, key=_when)


def _when(step: Step) -> tuple[bool, bool, str, int, str]:
    """Return the sort key of a step.

    A log's clock may have milliseconds only. So within one millisecond the kinds of steps decide,
    and the rest of the time decides only between steps of the same kind.
    """
    at = step.at or ""
    return (
        step.kind != "accepted", step.at is None, at[:_MILLISECOND], _ORDER.index(step.kind), at,
    )  # fmt: skip


def _is(record: Record, message_id: str) -> bool:
    try:
        event = decode(record)
    except DecodeError:
        return True  # a dead letter's own record
    return event.message_id == message_id or not isinstance(event, Message)


def _dead_lettered(death: Death) -> Found:
    """Return the search's result for a message whose dead letters are all resolved."""
    return Dead(
        MessageDeadLetter(
            death.id, death.reason, death.error, death.attempts, death.transport,
            death.partition, death.offset, death.failed_at,
        )
    )  # fmt: skip


def _receipts(kept: Sequence[KeptReceipt]) -> list[StoredReceipt]:
    return [StoredReceipt(receipt.user_id, receipt.state, receipt.at) for receipt in kept]


def _accepted(shown: MessageView) -> Iterator[Step]:
    if shown.accepted_at:
        yield Step(
            kind="accepted",
            title="Accepted by the ingress",
            at=shown.accepted_at,
            detail=f"correlation id {shown.correlation_id}" if shown.correlation_id else None,
        )


def _appended(
    shown: MessageView, places: Sequence[LogPosition], deaths: Sequence[Death]
) -> Iterator[Step]:
    redriven = [
        death.resolved_at for death in deaths if death.state == "redriven" and death.resolved_at
    ]
    for place in places:
        began = [shown.accepted_at, *(at for at in redriven if at <= place.appended_at)]
        yield Step(
            kind="appended",
            title=f"Appended to {place.transport}",
            at=place.appended_at or None,
            since=began[-1],
            log=place.transport,
            partition=place.partition,
            offset=place.offset,
            detail=None if place.appended_at else "no longer in that log: when is not known",
        )


def _attempts(attempts: Sequence[FailedAttempt]) -> Iterator[Step]:
    for attempt in attempts:
        what = "its receipt" if attempt.kind == "receipt" else "it"
        yield Step(
            kind="attempt",
            title=f"Attempt {attempt.attempt} to persist {what} failed",
            at=attempt.failed_at,
            log=attempt.transport,
            partition=attempt.partition,
            offset=attempt.offset,
            detail=f"{attempt.error} (worker {attempt.worker})",
            failed=True,
        )


def _outcome(shown: MessageView, found: Found, places: Sequence[LogPosition]) -> Iterator[Step]:
    if isinstance(found, StoredMessage):
        came = next(
            (p for p in places if (p.transport, p.offset) == (found.transport, found.offset)), None
        )
        how = f"from {found.transport}" if found.offset else "directly, without a log"
        attempts = f", delivered {found.attempts} times" if found.attempts > 1 else ""
        yield Step(
            kind="persisted",
            title="Persisted to PostgreSQL",
            at=found.persisted_at,
            since=(came.appended_at if came else None) or shown.accepted_at,
            log=found.transport if found.offset else None,
            partition=found.partition,
            offset=found.offset or None,
            detail=f"{how}, as number {found.seq} of all rows{attempts}",
        )
    elif isinstance(found, Buried):
        where = f"in the file {found.archive} of the archive" if found.archive else None
        yield Step(
            kind=found.state,
            title=f"Its row was {found.state}",
            at=found.at,
            detail=where or "nothing of it is kept; logs keep their records until their retention",
        )
    elif shown.state == "pending":
        yield Step(
            kind="pending",
            title="Waits in the log for a worker",
            at=None,
            since=places[-1].appended_at or None if places else None,
        )


def _deaths(deaths: Sequence[Death], places: Sequence[LogPosition]) -> Iterator[Step]:
    appended = {(p.transport, p.partition, p.offset): p.appended_at for p in places}
    for death in deaths:
        what = "Its receipt was" if death.kind == "receipt" else "Was"
        tries = "1 attempt" if death.attempts == 1 else f"{death.attempts} attempts"
        yield Step(
            kind="dead_lettered",
            title=f"{what} dead-lettered: {death.reason}",
            at=death.failed_at,
            since=appended.get((death.transport, death.partition, death.offset)) or None,
            log=death.transport,
            partition=death.partition,
            offset=death.offset,
            detail=f"{death.error} (after {tries})",
            failed=True,
            dead_letter_id=death.id,
        )
        if death.state in {"redriven", "discarded"}:
            yield Step(
                kind="redriven" if death.state == "redriven" else "discarded",
                title="Redriven to the primary log" if death.state == "redriven" else "Discarded",
                at=death.resolved_at,
                detail=f"by {death.resolved_by}: {death.resolved_why}",
                dead_letter_id=death.id,
            )


def _received(receipts: Sequence[KeptReceipt]) -> Iterator[Step]:
    for receipt in receipts:
        yield Step(
            kind="receipt",
            title=f"Receipt: {receipt.state}",
            at=receipt.at,
            detail=f"by {receipt.user_id}, persisted at {receipt.persisted_at}",
        )
