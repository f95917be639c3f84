"""The search for messages without a row among the log's records.

It reads the records after PostgreSQL's positions. So a message counts as not there only if
PostgreSQL has said, in one snapshot, that it has no row and up to where rows are.

A message that was accepted a moment ago has no row yet, and Kafka remembers no ids. Clients ask for
such messages all the time (a receipt follows its message), so they share a search: those that ask
while one is under way wait for the next.
"""

from __future__ import annotations

import asyncio

import msgspec

from ingress.schema.problems import LOG_UNAVAILABLE, Problem
from ingress.schema.retry_after import AWAY
from ingress.shared_query import SharedQuery, Waiting, answer_remaining
from otel.tracing.context import checked, sampled_trace_id
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads.persisted import Persisted, persisted
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import DecodeError, TransportError, TransportUnavailable
from transport.message.envelope import HEADER_MESSAGE_ID, HEADER_TRACEPARENT, Message, decode
from transport.message.identity import partition_of

__all__ = ["Pending", "PendingMessages"]

_PAGE = 500
_PERSISTED_WITHIN = 2.0
"""Seconds to wait for PostgreSQL. The next search waits for this one."""


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


_Answer = Pending | TransportError | Problem | Outage | None


class PendingMessages:
    """Finds messages that wait in the log.

    A search asks PostgreSQL once for its positions, and reads each partition once, for any number
    of messages.

    Args:
        transport: The log that workers read.
        pool: Connections to PostgreSQL.
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
            Outage: The message does not wait, and may be one whose row PostgreSQL lost.
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
            identity = await log.identity()
            state = await self._persisted(list(sought), list(waiting), identity)
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except TransportError as error:
            answer_remaining(waiting, error)
            return
        await asyncio.gather(
            *(self._search(progress[partition], them, state) for partition, them in sought.items())
        )

    async def _persisted(
        self, partitions: list[int], message_ids: list[str], log: str
    ) -> Persisted | Outage:
        """Return PostgreSQL's state, or why it can't be asked."""
        name = self._transport.name
        try:
            async with asyncio.timeout(_PERSISTED_WITHIN):
                return await persisted(self._pool, name, log, partitions, message_ids)
        except TimeoutError:
            return Outage("PostgreSQL did not say in time which rows it has")
        except Outage as error:
            return error

    async def _search(
        self, progress: Progress, sought: Waiting[_Answer], state: Persisted | Outage
    ) -> None:
        """Search the records of a partition that have no row, and set all answers."""
        # Without PostgreSQL, a message can be found from where the log shows its position, and none
        # counts as not there. Without a position, every record may have no row.
        if isinstance(state, Outage):
            after = progress.floor
        else:
            after = state.positions.get(progress.partition)
        try:
            if progress.unavailable:
                raise TransportUnavailable(f"no server has partition {progress.partition} now")
            await self._read(progress, sought, after or None)
        except (TransportError, Problem) as error:
            answer_remaining(sought, error)
        if isinstance(state, Outage):
            answer_remaining(sought, state)
            return
        for message_id, answer in sought.items():
            if message_id in state.rows and not answer.done():
                # The caller finds the row, unless PostgreSQL is another server by then.
                answer.set_result(Outage("the row that the message had a moment ago may be lost"))
        if progress.held:
            held = TransportUnavailable(
                f"{progress.held} records of partition {progress.partition} can't be read until "
                "another producer's transaction ends; the message may be one of them"
            )
            answer_remaining(sought, held)
        answer_remaining(sought, None)

    async def _read(self, progress: Progress, sought: Waiting[_Answer], after: str | None) -> None:
        """Read a partition until all messages are found, or to its end; set the answers of those.

        Raises:
            Problem: More records than are searched have no row.
        """
        key, end = self._transport.sort_key, progress.end
        if end is None or (after and key(after) >= key(end)):
            return
        left = self._scan
        names = {message_id.encode() for message_id in sought}
        while not all(answer.done() for answer in sought.values()):
            if left <= 0:
                detail = (
                    f"More than {self._scan} records of partition {progress.partition} wait for a "
                    "worker, and the message may be one of them."
                )
                raise Problem(LOG_UNAVAILABLE, detail, headers=AWAY)
            records = await self._transport.read(
                Topic.MESSAGES, progress.partition, after=after, limit=min(_PAGE, left)
            )
            for record in records:
                named = record.headers.get(HEADER_MESSAGE_ID)
                if named is None or named in names:
                    self._compare(record, sought)
            if not records or records[-1].offset == end:
                return
            left -= len(records)
            after = records[-1].offset

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
