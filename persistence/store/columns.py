"""A batch as columns: what ``unnest`` takes, and what asyncpg encodes without a loop of ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from asyncpg.pgproto.pgproto import UUID

from persistence.errors import Rejected
from persistence.store.batch import PositionedEvent
from transport.envelope import Message, Receipt, fingerprint

__all__ = ["MessageColumns", "ReceiptColumns", "columns", "text_array"]

_MOST_ATTEMPTS = 32_767  # of a smallint


class MessageColumns(msgspec.Struct):
    """The messages of a batch; ``indexes`` says where in it each stood."""

    indexes: list[int]
    partitions: list[int]
    ids: list[UUID]
    keys: list[str]
    fingerprints: list[str]
    values: tuple[Sequence[object], ...]
    """The statement's arguments, in its order."""


class ReceiptColumns(msgspec.Struct):
    """The receipts of a batch; ``keys`` are spelled as the statement returns them."""

    indexes: list[int]
    keys: list[str]
    values: tuple[Sequence[object], ...]


def columns(batch: Sequence[PositionedEvent]) -> tuple[MessageColumns, ReceiptColumns]:
    """Return the messages and the receipts of ``batch``, each in its order.

    Raises:
        Rejected: some record has an id that is no UUID, or a time that is not RFC 3339.
    """
    messages = [i for i, placed in enumerate(batch) if type(placed.event) is Message]
    receipts = [i for i, placed in enumerate(batch) if type(placed.event) is Receipt]
    try:
        return _messages(batch, messages), _receipts(batch, receipts)
    except ValueError as error:
        raise Rejected("an id is not a UUID, or a time is not RFC 3339 with an offset") from error


def _messages(batch: Sequence[PositionedEvent], indexes: list[int]) -> MessageColumns:
    placed = [batch[i] for i in indexes]
    events: list[Message] = [p.event for p in placed]  # type: ignore[misc]
    ids = [UUID(e.message_id) for e in events]
    keys = [e.idempotency_key for e in events]
    prints = [fingerprint(e.content, e.content_type, e.recipient_ids) for e in events]
    partitions = [p.partition for p in placed]
    values: tuple[Sequence[object], ...] = (
        ids,
        keys,
        [e.correlation_id for e in events],
        [e.conversation_id for e in events],
        [e.sender_id for e in events],
        [e.client_message_id for e in events],
        [text_array(e.recipient_ids) for e in events],
        [e.content for e in events],
        [e.content_type for e in events],
        prints,
        [_moment(e.accepted_at) for e in events],
        partitions,
        [p.offset for p in placed],
        [min(p.attempts, _MOST_ATTEMPTS) for p in placed],
        [p.trace_id for p in placed],
        [e.payload_key for e in events],
    )
    return MessageColumns(indexes, partitions, ids, keys, prints, values)


def _receipts(batch: Sequence[PositionedEvent], indexes: list[int]) -> ReceiptColumns:
    events: list[Receipt] = [batch[i].event for i in indexes]  # type: ignore[misc]
    ids = [UUID(e.message_id) for e in events]
    return ReceiptColumns(
        indexes,
        [f"{i}/{e.state}/{e.user_id}" for i, e in zip(ids, events, strict=True)],
        (
            ids,
            [e.user_id for e in events],
            [e.state for e in events],
            [_moment(e.at) for e in events],
            [e.correlation_id for e in events],
        ),
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment


def text_array(values: Sequence[str]) -> str:
    """Return ``values`` as the text of a PostgreSQL array.

    Rows have arrays of different lengths, which an array of arrays can't hold.
    """
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        joined = '","'.join(v.replace("\\", "\\\\").replace('"', '\\"') for v in values)
    return '{"' + joined + '"}'
