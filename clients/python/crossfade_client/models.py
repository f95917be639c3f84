"""Requests and answers as dataclasses. Times are RFC 3339 text in UTC, as the service has them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from crossfade_client.errors import CrossfadeError

__all__ = [
    "Ack",
    "AckState",
    "BatchResult",
    "DeadLetter",
    "Message",
    "NewMessage",
    "Page",
    "Payload",
    "Position",
    "Receipt",
    "ReceiptAck",
    "ReceiptState",
    "Receipts",
    "State",
    "TraceContext",
    "new_key",
]

State = Literal["pending", "persisted", "dead_lettered", "archived", "erased"]
"""The state of a message. ``pending``: in the log. ``persisted``: has its row. ``dead_lettered``:
could not be stored. ``archived``: was a row, and is now in a file of the archive. ``erased``: its
content is deleted."""
AckState = Literal[State, "unknown"]
"""The state of a message in an acknowledgement. ``unknown``: accepted before, and the service could
not ask PostgreSQL whether it has its row."""
ReceiptState = Literal["delivered", "read"]

# UUIDs in the order of time, if Python has them (3.14): a database's index takes them better.
_new_uuid: Callable[[], uuid.UUID] = getattr(uuid, "uuid7", uuid.uuid4)


def new_key() -> str:
    """Return a new idempotency key."""
    return str(_new_uuid())


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to send. If it is sent again (the same object, or an equal one), it is stored once.

    Its key is (``sender_id``, ``conversation_id``, ``client_message_id``). By default
    ``client_message_id`` is a new UUID. Give an id that the application keeps, such as the id of a
    row that the message is about: then the message is stored once even if the application restarts
    between two attempts.

    ``content`` may be bytes, up to ``INGRESS_MAX_PAYLOAD_BYTES``, if the service has a payload
    store. ``send`` accepts bytes, ``send_batch`` does not.
    """

    conversation_id: str
    sender_id: str
    content: str | bytes
    content_type: str = "text"
    recipient_ids: tuple[str, ...] = ()
    client_message_id: str = field(default_factory=new_key)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The caller's place in a trace (W3C Trace Context)."""

    traceparent: str
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """The acknowledgement of a message: it is durable in the log."""

    message_id: str
    state: AckState
    accepted_at: str
    idempotent_hit: bool
    """Whether the service had accepted the message before. ``accepted_at`` is that first time."""
    correlation_id: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The outcome of one message of a batch: either ``ack`` or ``error``."""

    message: NewMessage
    ack: Ack | None = None
    error: CrossfadeError | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a message in one log. ``offset`` is text in that log's own format."""

    transport: str
    partition: int
    offset: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user's receipt: the user has received (``delivered``) or read a message."""

    user_id: str
    state: str
    at: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The dead letter of a message that could not be persisted: the reason and the error."""

    id: int
    reason: str
    error: str
    failed_at: str


@dataclass(frozen=True, slots=True)
class Payload:
    """Content that is stored apart from its message: it is large, or not text.

    ``Client.content`` reads it.
    """

    bytes: int
    sha256: str
    content_type: str
    url: str
    """The content's URL, relative to the service."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message, stored or on its way. Unknown members are ``None``."""

    message_id: str
    state: State
    conversation_id: str | None = None
    sender_id: str | None = None
    client_message_id: str | None = None
    recipient_ids: tuple[str, ...] = ()
    content: str | None = None
    payload: Payload | None = None
    """Set if the content is stored apart. Then ``content`` is ``None``; use ``Client.content``."""
    content_type: str | None = None
    accepted_at: str | None = None
    persisted_at: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    trace_url: str | None = None
    positions: tuple[Position, ...] = ()
    attempts: int | None = None
    receipts: tuple[Receipt, ...] = ()
    """The first 1,000 receipts."""
    dead_letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a conversation, oldest message first.

    A page may be empty although more messages follow (``has_more``).
    """

    items: tuple[Message, ...]
    next: str | None
    """The cursor for the messages that follow, also for those that are written later. ``None`` only
    while the conversation is empty."""
    has_more: bool


@dataclass(frozen=True, slots=True)
class ReceiptAck:
    """The acknowledgement of a receipt."""

    message_id: str
    user_id: str
    state: ReceiptState
    at: str
    idempotent_hit: bool
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Receipts:
    """The first 1,000 receipts of a message, oldest first."""

    items: tuple[Receipt, ...]
    has_more: bool
