"""Bodies of the ordinary routes, as pydantic models, so that FastAPI documents them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from ingress.schema.requests import ID_LENGTH
from ingress.schema.responses import State
from transport.envelope import ReceiptState

__all__ = [
    "MOST_RECEIPTS",
    "RFC3339",
    "UUID_PATTERN",
    "Component",
    "ConversationPage",
    "DeadLetterSummary",
    "Health",
    "Id",
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
    "Small",
    "Text",
    "Time",
    "known",
]

MOST_RECEIPTS = 1_000
"""Receipts of one message that are read at once."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_NO_NUL = "^[^\\x00]*$"
Text = Annotated[str, Field(min_length=1, max_length=ID_LENGTH, pattern=_NO_NUL)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time of this service's own: RFC 3339, UTC."""
Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Small = Annotated[int, Field(json_schema_extra={"format": "int32"})]
"""A number that 32 bits hold on every side."""


def known(*values: str) -> WithJsonSchema:
    """Return the schema of a text that is one of ``values`` today; later ones may follow."""
    words = [str(value) for value in values]
    return WithJsonSchema(
        {
            "type": "string",
            "description": f"{', '.join(words)}; a later version may have others.",
            "x-extensible-enum": words,
            "example": words[0],
        }
    )


class Model(BaseModel):
    """Camel case on the wire, nothing unknown accepted, nothing guessed."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True
    )

    @classmethod
    def of(cls, thing: object) -> Self:
        """Convert a struct of another package, by the names of its attributes."""
        return cls.model_validate(thing, from_attributes=True)


class Position(Model):
    """Where a message stands in one log. ``offset`` is that log's own text."""

    transport: str
    partition: Small
    offset: str


class ReceiptView(Model):
    """That a user got or saw a message."""

    user_id: str
    state: Annotated[ReceiptState | str, known(*get_args(ReceiptState))]
    at: Time


class DeadLetterSummary(Model):
    """Why a message could not be persisted; the whole is under ``/api/dead-letters/{id}``."""

    id: int
    reason: str
    error: str
    failed_at: Time


class MessageSummary(Model):
    """A persisted message."""

    message_id: Id
    conversation_id: str
    sender_id: str
    client_message_id: str
    recipient_ids: tuple[str, ...]
    content: str
    content_type: str
    accepted_at: Time
    persisted_at: Time
    correlation_id: str
    trace_id: str | None


class MessageView(Model):
    """A message wherever it is now. Fields that can't be told yet are null."""

    message_id: Id
    state: State
    conversation_id: str | None = None
    sender_id: str | None = None
    client_message_id: str | None = None
    recipient_ids: tuple[str, ...] | None = None
    content: str | None = None
    content_type: str | None = None
    accepted_at: Time | None = None
    persisted_at: Time | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    trace_url: str | None = None
    positions: list[Position]
    """One for each log that has it; none for a message persisted directly."""
    attempts: Small | None = None
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

    message_id: Id
    user_id: str
    state: ReceiptState
    at: Time
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
    status: Small
    remedy: str


class ProblemTypes(Model):
    """Every problem type there is."""

    items: list[ProblemType]
