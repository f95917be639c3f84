"""The search for messages without a row among the log's records.

It reads unacknowledged records, and acknowledged ones whose rows PostgreSQL lost: those of a
failover to a standby that was behind, until workers have put the rows back.

A message that was accepted a moment ago has no row yet, and Kafka remembers no ids. Clients ask for
such messages all the time (a receipt follows its message), so they share a search: those that ask
while one is under way wait for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import msgspec

from ingress.schema.problems import LOG_UNAVAILABLE, Problem
from ingress.shared_query import SharedQuery, Waiting, answer_remaining
from otel.tracing.context import checked, sampled_trace_id
from persistence.database.pool import Pool, using
from persistence.errors import Outage
from persistence.store.positions import known_positions
from persistence.worker.recovery.positions import acknowledged_through, is_behind
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import DecodeError, TransportError, TransportUnavailable
from transport.message.envelope import HEADER_MESSAGE_ID, HEADER_TRACEPARENT, Message, decode
from transport.message.identity import partition_of

__all__ = ["RETRY_AFTER", "Pending", "PendingMessages"]

RETRY_AFTER = {"Retry-After": "2"}
_PAGE = 500
_POSITIONS_WITHIN = 0.5
"""Seconds. A search must not wait for a PostgreSQL that is away; it then reads what waits alone."""


class Pending(msgspec.Struct, frozen=True):
    """A message in the log without a row yet.

    ``message`` is ``None`` if only the log's remembered answer was read, and not the record.
    """

    transport: str
    partition: int
    offset: str
    accepted_at: str
    correlation_id: str
    message: Message | None = None
    trace_id: str | None = None


_Answer = Pending | TransportError | Problem | None


class PendingMessages:
    """Finds messages that wait in the log.

    A search asks the log once for the workers' progress, and reads each partition once, for any
    number of messages.

    Args:
        transport: The log that workers read.
        pool: Connections to PostgreSQL, which has the positions of the workers.
        scan: The most records of a partition to read in a search.
    """

    def __init__(self, transport: Transport, pool: Pool, scan: int) -> None:
        self._transport = transport
        self._pool = pool
        self._scan = scan
        self._query = SharedQuery[_Answer](self._look_for, unanswered=_given_up)

    async def find(self, message_id: str) -> Pending | None:
        """Return the message if it waits for a worker now.

        Raises:
            Problem: The message may wait behind more records than are searched.
            TransportError: The log can't tell whether the message waits.
        """
        found = await self._query.answer(message_id)
        if isinstance(found, Exception):
            raise found
        return found

    async def _look_for(self, waiting: Waiting[_Answer]) -> None:
        """Search the log for all messages of ``waiting``, and set each answer."""
        log, sought = self._transport, dict[int, dict[str, asyncio.Future[_Answer]]]()
        for message_id, answer in waiting.items():
            partition = partition_of(message_id, log.partitions)
            sought.setdefault(partition, {})[message_id] = answer
        try:
            progress, positions = await asyncio.gather(
                log.progress(Topic.MESSAGES, group=WORKER_GROUP), self._positions(sought)
            )
        except TransportError as error:
            answer_remaining(waiting, error)
            return
        await asyncio.gather(
            *(
                self._look_in(progress[partition], positions.get(partition), them)
                for partition, them in sought.items()
            )
        )

    async def _positions(self, partitions: Collection[int]) -> Mapping[int, str | None]:
        """Return up to where partitions have their rows; empty while PostgreSQL can't tell."""
        try:
            async with asyncio.timeout(_POSITIONS_WITHIN), using(self._pool) as connection:
                return await known_positions(connection, self._transport.name, list(partitions))
        except (Outage, TimeoutError):
            return {}

    async def _look_in(
        self, progress: Progress, position: str | None, sought: Waiting[_Answer]
    ) -> None:
        """Search one partition, and set the answers of all its messages."""
        try:
            await self._read(progress, position, sought)
        except (TransportError, Problem) as error:
            answer_remaining(sought, error)
        else:
            answer_remaining(sought, None)

    async def _read(
        self, progress: Progress, position: str | None, sought: Waiting[_Answer]
    ) -> None:
        """Read records that may lack a row until all messages are found; set those answers.

        Args:
            progress: The workers' progress in the log.
            position: The offset up to which PostgreSQL has the rows; ``None``: not known.
            sought: The messages by id.
        """
        partition = progress.partition
        if progress.unavailable:
            raise TransportUnavailable(f"no server has partition {partition} now")
        after, left = progress.floor, self._scan
        if position is not None and is_behind(
            self._transport, position, acknowledged_through(progress)
        ):
            after = position or None
        elif progress.lag == 0:
            return
        names = {message_id.encode() for message_id in sought}
        while not all(answer.done() for answer in sought.values()):
            if left <= 0:
                detail = (
                    f"More than {self._scan} records of partition {partition} wait for a worker, "
                    "and the message may be one of them."
                )
                raise Problem(LOG_UNAVAILABLE, detail, headers=RETRY_AFTER)
            records = await self._transport.read(
                Topic.MESSAGES, partition, after=after, limit=min(_PAGE, left)
            )
            for record in records:
                named = record.headers.get(HEADER_MESSAGE_ID)
                if named is None or named in names:
                    self._compare(record, sought)
            if not records or records[-1].offset == progress.end:
                break
            left -= len(records)
            after = records[-1].offset
        else:
            return
        if progress.held:
            raise TransportUnavailable(
                f"{progress.held} records of partition {partition} can't be read until another "
                "producer's transaction ends; the message may be one of them"
            )

    def _compare(self, record: Record, sought: Waiting[_Answer]) -> None:
        """Set the answer of the message in ``record``, unless an earlier record set it."""
        try:
            event = decode(record)
        except DecodeError:
            return
        if not isinstance(event, Message):
            return
        answer = sought.get(event.message_id)
        if answer is None or answer.done():
            return
        parent = record.headers.get(HEADER_TRACEPARENT)
        answer.set_result(
            Pending(
                self._transport.name,
                record.partition,
                record.offset,
                event.accepted_at,
                event.correlation_id,
                event,
                sampled_trace_id(checked(parent)),
            )
        )


def _given_up() -> TransportUnavailable:
    return TransportUnavailable("the look into the log was given up")
