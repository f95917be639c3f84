"""Bodies of FastAPI's routes.

Answers are msgspec structs. Requests are pydantic models: FastAPI reads bodies, queries and paths
with pydantic, which reports all faults at once.
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
"""The most receipts of one message in an answer."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_NO_NUL = Field(pattern="^[^\\x00]*$")
Text = Annotated[str, Field(min_length=1, max_length=ID_LENGTH), _NO_NUL]
Reasoned = Annotated[str, Field(min_length=1, max_length=1000), _NO_NUL]
"""The reason of an action, for the record of actions."""


class Model(BaseModel):
    """Base class of request bodies. Names are in camel case; unknown members are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True
    )


class DeadLetterSummary(ApiStruct, frozen=True):
    """Why a message could not be persisted. ``/api/dead-letters/{id}`` has the full record."""

    id: int
    reason: str
    error: str
    failed_at: Time


class PayloadView(ApiStruct, frozen=True):
    """Content that is not shown with the message, because it is large or not text."""

    bytes: int
    sha256: str
    content_type: str
    url: str
    """The content's URL, relative to the API."""


class MessageSummary(ApiStruct, frozen=True):
    """A persisted message."""

    message_id: Id
    conversation_id: str
    sender_id: str
    client_message_id: str
    recipient_ids: tuple[str, ...]
    content: str | None
    """Null if the content is in ``payload``."""
    content_type: str
    accepted_at: Time
    persisted_at: Time
    correlation_id: str
    trace_id: str | None
    payload: PayloadView | None = None


class MessageView(ApiStruct, frozen=True, kw_only=True):
    """A message in any state. Fields that are not known yet are null."""

    message_id: Id
    state: State
    conversation_id: str | None = None
    sender_id: str | None = None
    client_message_id: str | None = None
    recipient_ids: tuple[str, ...] | None = None
    content: str | None = None
    payload: PayloadView | None = None
    """Set if the content is large or not text; then ``content`` is null."""
    content_type: str | None = None
    accepted_at: Time | None = None
    persisted_at: Time | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    trace_url: str | None = None
    positions: list[StoredPosition]
    """The positions in all logs that have the message; none if it was persisted directly."""
    attempts: Small | None = None
    """The number of attempts to persist it; null until it is persisted or a dead letter."""
    receipts: list[StoredReceipt]
    """The first 1,000 receipts."""
    dead_letter: DeadLetterSummary | None = None


class ConversationPage(ApiStruct, frozen=True):
    """A page of a conversation, oldest first."""

    items: list[MessageSummary]
    next: str | None
    """The cursor to send as ``after`` for the messages that follow, also for those that are written
    later. Null only while the conversation is empty."""
    has_more: bool


class ReceiptRequest(Model):
    """A receipt to record."""

    user_id: Text
    state: ReceiptState


class ReceiptAck(ApiStruct, frozen=True):
    """The acknowledgement of a receipt. The receipt is durable before this is sent."""

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
    """A problem type with its remedy."""

    type: str
    title: str
    status: Small
    remedy: str


class ProblemTypes(ApiStruct, frozen=True):
    """All problem types."""

    items: list[ProblemType]
