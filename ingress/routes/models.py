"""Bodies of the ordinary routes.

What the service answers are msgspec structs. What a client sends are pydantic models: FastAPI reads
bodies, queries and paths with pydantic, and a client is told all of its faults at once.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingress.schema.requests import ID_LENGTH
from ingress.schema.responses import State
from ingress.schema.structs import ApiStruct
from persistence.jobs.job import Job
from persistence.json_types import Id, Small, Time
from persistence.reads.messages import StoredPosition, StoredReceipt
from transport.message.envelope import ReceiptState

__all__ = [
    "MOST_RECEIPTS",
    "RFC3339",
    "UUID_PATTERN",
    "ConversationPage",
    "DeadLetterSummary",
    "Health",
    "Jobs",
    "MessageSummary",
    "MessageView",
    "Model",
    "PayloadView",
    "ProblemType",
    "ProblemTypes",
    "Reasoned",
    "ReceiptAck",
    "ReceiptList",
    "ReceiptRequest",
    "Text",
]

MOST_RECEIPTS = 1_000
"""Receipts of one message that are read at once."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_NO_NUL = Field(pattern="^[^\\x00]*$")
Text = Annotated[str, Field(min_length=1, max_length=ID_LENGTH), _NO_NUL]
Reasoned = Annotated[str, Field(min_length=1, max_length=1000), _NO_NUL]
"""Why something is done, for the record of actions."""


class Model(BaseModel):
    """Base of request bodies: camel case on the wire, unknown members refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True
    )


class DeadLetterSummary(ApiStruct, frozen=True):
    """Why a message could not be persisted; the whole is under ``/api/dead-letters/{id}``."""

    id: int
    reason: str
    error: str
    failed_at: Time


class PayloadView(ApiStruct, frozen=True):
    """Content that is not shown beside the message, since it is large or no text."""

    bytes: int
    sha256: str
    content_type: str
    url: str
    """Where to read it, relative to the API."""


class MessageSummary(ApiStruct, frozen=True):
    """A persisted message."""

    message_id: Id
    conversation_id: str
    sender_id: str
    client_message_id: str
    recipient_ids: tuple[str, ...]
    content: str | None
    """Null where it is in ``payload``."""
    content_type: str
    accepted_at: Time
    persisted_at: Time
    correlation_id: str
    trace_id: str | None
    payload: PayloadView | None = None


class MessageView(ApiStruct, frozen=True, kw_only=True):
    """A message wherever it is now. Fields that can't be told yet are null."""

    message_id: Id
    state: State
    conversation_id: str | None = None
    sender_id: str | None = None
    client_message_id: str | None = None
    recipient_ids: tuple[str, ...] | None = None
    content: str | None = None
    payload: PayloadView | None = None
    """Set, and ``content`` null, where the content is large or no text."""
    content_type: str | None = None
    accepted_at: Time | None = None
    persisted_at: Time | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    trace_url: str | None = None
    positions: list[StoredPosition]
    """One for each log that has it; none for a message persisted directly."""
    attempts: Small | None = None
    """Attempts to persist it; null while it has not been persisted or given up."""
    receipts: list[StoredReceipt]
    """The first 1,000."""
    dead_letter: DeadLetterSummary | None = None


class ConversationPage(ApiStruct, frozen=True):
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


class ReceiptAck(ApiStruct, frozen=True):
    """The acknowledgement of a receipt. It is durable before this is sent."""

    message_id: Id
    user_id: str
    state: ReceiptState
    at: Time
    idempotent_hit: bool
    correlation_id: str


class ReceiptList(ApiStruct, frozen=True):
    """A message's receipts, oldest first."""

    items: list[StoredReceipt]
    has_more: bool


class Jobs(ApiStruct, frozen=True):
    """The latest long jobs, newest first."""

    items: list[Job]


class Health(ApiStruct, frozen=True):
    """The process runs."""

    status: Literal["ok"]


class ProblemType(ApiStruct, frozen=True):
    """A problem type, and what to do when it is met."""

    type: str
    title: str
    status: Small
    remedy: str


class ProblemTypes(ApiStruct, frozen=True):
    """Every problem type there is."""

    items: list[ProblemType]
