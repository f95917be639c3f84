"""What the ordinary routes take and give, as pydantic models, so that FastAPI documents them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingress.requests import ID_LENGTH
from ingress.responses import State
from transport.envelope import ReceiptState

__all__ = [
    "MOST_RECEIPTS",
    "UUID_PATTERN",
    "Component",
    "ConversationPage",
    "DeadLetterSummary",
    "Health",
    "MessageSummary",
    "MessageView",
    "Model",
    "Position",
    "ProblemType",
    "ProblemTypes",
    "Readiness",
    "ReceiptAck",
    "ReceiptList",
    "ReceiptRequest",
    "ReceiptView",
    "Text",
]

MOST_RECEIPTS = 1_000
"""Receipts of one message that are read at once."""
UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_NO_NUL = "^[^\\x00]*$"
Text = Annotated[str, Field(min_length=1, max_length=ID_LENGTH, pattern=_NO_NUL)]


class Model(BaseModel):
    """Camel case on the wire, nothing unknown accepted, nothing guessed."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True
    )

    @classmethod
    def of(cls, thing: object) -> Self:
        """Return what a struct of another package says, by the names of its attributes."""
        return cls.model_validate(thing, from_attributes=True)


class Position(Model):
    """Where a message stands in one log. ``offset`` is that log's own text."""

    transport: str
    partition: int
    offset: str


class ReceiptView(Model):
    """That a user got or saw a message."""

    user_id: str
    state: ReceiptState | str
    at: str


class DeadLetterSummary(Model):
    """Why a message could not be persisted; the whole is under ``/api/dead-letters/{id}``."""

    id: int
    reason: str
    error: str
    failed_at: str


class MessageSummary(Model):
    """A persisted message."""

    message_id: str
    conversation_id: str
    sender_id: str
    client_message_id: str
    recipient_ids: list[str]
    content: str
    content_type: str
    accepted_at: str
    persisted_at: str
    correlation_id: str
    trace_id: str | None


class MessageView(Model):
    """A message wherever it is now. Fields that can't be told yet are null."""

    message_id: str
    state: State
    conversation_id: str | None = None
    sender_id: str | None = None
    client_message_id: str | None = None
    recipient_ids: list[str] | None = None
    content: str | None = None
    content_type: str | None = None
    accepted_at: str | None = None
    persisted_at: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    trace_url: str | None = None
    positions: list[Position]
    """One for each log that has it; none for a message persisted directly."""
    attempts: int | None = None
    """Attempts to persist it; null while it has not been persisted or given up."""
    receipts: list[ReceiptView]
    """The first 1,000."""
    dead_letter: DeadLetterSummary | None = None


class ConversationPage(Model):
    """A page of a conversation, oldest first."""

    items: list[MessageSummary]
    next: str | None
    """The cursor to send as ``after`` for what follows, also for what will be written later; null
    only while the conversation is empty."""
    has_more: bool


class ReceiptRequest(Model):
    """A receipt to record."""

    user_id: Text
    state: ReceiptState


class ReceiptAck(Model):
    """The acknowledgement of a receipt. It is durable before this is sent."""

    message_id: str
    user_id: str
    state: ReceiptState
    at: str
    idempotent_hit: bool
    correlation_id: str


class ReceiptList(Model):
    """A message's receipts, oldest first."""

    items: list[ReceiptView]
    has_more: bool


class Health(Model):
    """The process runs."""

    status: Literal["ok"]


class Component(Model):
    """One dependency. ``detail`` says what an operator should know."""

    name: str
    status: Literal["up", "degraded", "down"]
    required: bool
    detail: str


class Readiness(Model):
    """Whether this process can do its work now."""

    status: Literal["ready", "degraded", "unavailable"]
    components: list[Component]


class ProblemType(Model):
    """A problem type, and what to do when it is met."""

    type: str
    title: str
    status: int
    remedy: str


class ProblemTypes(Model):
    """Every problem type there is."""

    items: list[ProblemType]
