"""The search for the message at an offset of a log."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from ingress.console.search.query import QueriedPosition
from ingress.console.views import FoundMessage
from ingress.schema.responses import State
from persistence.database.pool import Pool
from persistence.reads import outcomes
from persistence.reads.messages import StoredPosition
from transport.contract import Record, Topic, Transport
from transport.errors import DecodeError
from transport.lookup import record_at
from transport.message.envelope import Message, decode

__all__ = ["PositionSearch"]


class PositionSearch:
    """Finds messages by offset, while the log has their records."""

    def __init__(self, pool: Pool, logs: Mapping[str, Transport]) -> None:
        self._pool = pool
        self._logs = logs

    async def find(self, position: QueriedPosition | None, notes: list[str]) -> list[FoundMessage]:
        """Return the message at ``position``; append remarks for the reader to ``notes``.

        Raises:
            Outage: PostgreSQL does not answer.
            TransportError: The log does not answer.
        """
        if position is None:
            return []
        log = self._logs[position.log]
        if position.partition >= log.partitions:
            notes.append(f"{position.log} has the partitions 0 to {log.partitions - 1}.")
            return []
        try:
            record = await record_at(log, Topic.MESSAGES, position.partition, position.offset)
        except ValueError as error:
            notes.append(f"This is no place in {position.log}: {error}.")
            return []
        if record is None:
            notes.append(
                f"{position.log} has no record there (any more), and rows can't be found by their "
                "place in a log: search for the conversation, or for another id."
            )
            return []
        return [await self._found_in_log(position, record, notes)]

    async def _found_in_log(
        self, position: QueriedPosition, record: Record, notes: list[str]
    ) -> FoundMessage:
        where = StoredPosition(position.log, record.partition, record.offset)
        try:
            event = decode(record)
        except DecodeError as error:
            notes.append(f"The record there is not a message: {error}.")
            return FoundMessage(
                message_id=None, matched=["log position"], state="pending", position=where
            )
        state = await self._state(event.message_id)
        if not isinstance(event, Message):
            notes.append(f"The record there is a receipt ({event.state}) of this message.")
            return FoundMessage(
                message_id=event.message_id,
                matched=["log position"],
                state=state,
                position=where,
            )
        return FoundMessage(
            message_id=event.message_id,
            matched=["log position"],
            state=state,
            conversation_id=event.conversation_id,
            sender_id=event.sender_id,
            client_message_id=event.client_message_id,
            correlation_id=event.correlation_id,
            accepted_at=event.accepted_at,
            position=where,
        )

    async def _state(self, message_id: str) -> State:
        try:
            UUID(message_id)
        except ValueError:
            return "pending"  # no row can have an id that is no UUID
        found = await outcomes.message_outcomes(self._pool, [message_id])
        if not found:
            return "pending"
        return "dead_lettered" if all(outcome.reason for outcome in found) else "persisted"
