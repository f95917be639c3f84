"""Requests and answers. Times are RFC 3339 text in UTC, as the service writes them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from crossfade.client.errors import CrossfadeError

__all__ = [
    "Ack",
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
"""``pending``: in the log. ``persisted``: has its row. ``dead_lettered``: could not be stored.
``archived``: was a row, and is in a file of the archive. ``erased``: nothing of it is kept."""
ReceiptState = Literal["delivered", "read"]

# In the order of time where Python has it (3.14): kinder to a database's index.
_new_uuid: Callable[[], uuid.UUID] = getattr(uuid, "uuid7", uuid.uuid4)


def new_key() -> str:
    """Return a new idempotency key."""
    return str(_new_uuid())


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to send. Sent again, as the same object or an equal one, it is stored once.

    Its key is (``sender_id``, ``conversation_id``, ``client_message_id``). ``client_message_id`` is
    made where none is given; give one that the application keeps, such as the id of the row that
    the message tells of, and it is stored once also when the application restarts in between.

    ``content`` may be bytes, of any kind and up to ``INGRESS_MAX_PAYLOAD_BYTES``, where the service
    has a payload store. ``send`` takes them, ``send_batch`` does not.
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
    state: State
    accepted_at: str
    idempotent_hit: bool
    """Whether the service had it already. Then ``accepted_at`` is that first time."""
    correlation_id: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Outcome of one message of a batch: an acknowledgement or an error."""

    message: NewMessage
    ack: Ack | None = None
    error: CrossfadeError | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a message stands in one log. ``offset`` is that log's own text."""

    transport: str
    partition: int
    offset: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user's receipt: they got or saw a message."""

    user_id: str
    state: str
    at: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a message could not be persisted."""

    id: int
    reason: str
    error: str
    failed_at: str


@dataclass(frozen=True, slots=True)
class Payload:
    """Content that is not beside its message: it is large, or no text. ``content()`` reads it."""

    bytes: int
    sha256: str
    content_type: str
    url: str
    """Relative to the service."""


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
    """Set, and ``content`` is ``None``, where the content has to be read by ``content()``."""
    content_type: str | None = None
    accepted_at: str | None = None
    persisted_at: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    trace_url: str | None = None
    positions: tuple[Position, ...] = ()
    attempts: int | None = None
    receipts: tuple[Receipt, ...] = ()
    """The first 1,000."""
    dead_letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a conversation, oldest first. It may be empty although there are more."""

    items: tuple[Message, ...]
    next: str | None
    """The cursor for what follows, also for what will be written later; ``None`` only while the
    conversation is empty."""
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
    """A message's receipts, oldest first: the first 1,000."""

    items: tuple[Receipt, ...]
    has_more: bool
