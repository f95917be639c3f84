"""Map fields of messages and receipts to columns: the one list that everything reads.

The insert, its parameters, the reads, the audit and the backfill are made from these tables. A
field added here (and to the event, the model and a migration) is written and read everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID
from msgspec import UNSET

from persistence.array_literals import of_texts
from persistence.timestamps import rfc3339
from transport.message.envelope import Message, Receipt

__all__ = [
    "MESSAGE",
    "RECEIPT",
    "Column",
    "as_it_is",
    "message_of",
    "names",
    "or_null",
    "receipt_of",
]


def as_it_is(value: Any) -> Any:
    """Return ``value``: the column and the field hold the same."""
    return value


class Column(NamedTuple):
    """One column, and the field of the event that it holds."""

    field: str
    name: str
    type: str = "text"
    """PostgreSQL's type. Arrays of arrays can't be sent: each array goes as text."""
    write: Callable[[Any], object] = as_it_is
    """Converts the field to what a statement takes: ids and times are text, which it casts. Raises
    ValueError for a value that the column can't hold."""
    read: Callable[[Any], Any] = as_it_is
    """Converts what asyncpg returns into the field's value."""
    sent: bool = False
    """Whether the sender wrote the field: an audit compares and restores it."""
    is_long_or_null: bool = False
    """Whether a text may be long or null: then the insert does not join the texts of a batch."""

    @property
    def is_array(self) -> bool:
        """Whether the column itself holds an array."""
        return self.type.endswith("[]")


@lru_cache(maxsize=256)  # messages of one append have the same time
def _moment(text: str) -> str:
    """Return a time in UTC, in the spelling that PostgreSQL and this service read alike."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError as error:  # PostgreSQL would store it, and no query could return the row
        raise ValueError("its year in UTC is before 1 or after 9999") from error


def _uuid(text: str) -> str:
    return str(UUID(text))


def or_null(value: Any) -> Any:
    """Return ``value``; ``None`` for a field that is not set."""
    return None if value is UNSET else value


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


MESSAGE = (
    Column("message_id", "id", "uuid", read=str),
    Column("idempotency_key", "idempotency_key"),
    Column("correlation_id", "correlation_id"),
    Column("conversation_id", "conversation_id", sent=True),
    Column("sender_id", "sender_id", sent=True),
    Column("client_message_id", "client_message_id", sent=True),
    Column("recipient_ids", "recipient_ids", "text[]", of_texts, tuple, sent=True),
    Column("content", "content", sent=True, is_long_or_null=True),
    Column("content_type", "content_type", sent=True),
    Column("accepted_at", "accepted_at", "timestamptz", _moment, rfc3339),
    Column("payload_key", "payload_key", is_long_or_null=True),
    Column("payload_bytes", "payload_bytes", "bigint", or_null, _or_unset),
)
"""The columns of ``messages`` that hold a ``Message``.

``fingerprint`` is one more, which the insert computes.
"""

RECEIPT = (
    Column("message_id", "message_id", "uuid", _uuid, str),
    Column("user_id", "user_id"),
    Column("state", "state"),
    Column("at", "at", "timestamptz", _moment, rfc3339),
    Column("correlation_id", "correlation_id"),
)
"""The columns of ``message_receipts`` that hold a ``Receipt``."""


def names(columns: Iterable[Column], table: str = "") -> str:
    """Return the columns' names as a statement lists them, each with its ``table`` if given."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + column.name for column in columns)


def message_of(row: asyncpg.Record) -> Message:
    """Return the message in a row that has every column of ``MESSAGE``, and ``fingerprint``.

    Sealed, it is the record that the row came from. ``content`` is empty if the payload is too
    large for the row, or is no text.
    """
    message = Message(**{column.field: column.read(row[column.name]) for column in MESSAGE})
    if message.payload_key is None:
        return message
    return msgspec.structs.replace(message, v=2, payload_fingerprint=row["fingerprint"])


def receipt_of(row: asyncpg.Record) -> Receipt:
    """Return the receipt in a row that has every column of ``RECEIPT``."""
    return Receipt(**{column.field: column.read(row[column.name]) for column in RECEIPT})
