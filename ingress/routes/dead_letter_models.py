"""What the routes of dead letters take and give."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from ingress.routes.models import Model, Text
from transport.contract import Reason

__all__ = [
    "DeadLetterFilter",
    "DeadLetterPage",
    "DeadLetterQuery",
    "DeadLetterView",
    "DiscardRequest",
    "Discarded",
    "FullDeadLetter",
    "Header",
    "RedrivePreview",
    "RedriveRequest",
    "RedriveView",
    "Redrives",
    "Started",
]

DeadLetterId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class DeadLetterFilter(Model):
    """Pending dead letters that meet every condition given; `{}` is all of them."""

    reason: Annotated[Reason | None, Field(strict=False)] = None
    conversation_id: Text | None = None
    message_id: Annotated[UUID | None, Field(strict=False)] = None
    failed_after: Annotated[AwareDatetime | None, Field(strict=False)] = None
    failed_before: Annotated[AwareDatetime | None, Field(strict=False)] = None


class DeadLetterQuery(DeadLetterFilter):
    """Which page of which dead letters."""

    # A query is text: numbers in it are read as numbers.
    model_config = ConfigDict(strict=False)

    state: Literal["pending", "redriven", "discarded", "any"] = "pending"
    after: Annotated[str | None, Field(max_length=64)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class _Chosen(Model):
    ids: Annotated[list[DeadLetterId] | None, Field(min_length=1, max_length=1000)] = None
    filter: DeadLetterFilter | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either ids or filter (an empty filter is all that are pending)")
        return self


class RedriveRequest(_Chosen):
    """Which dead letters to append to the primary log again, and how fast."""

    dry_run: bool = False
    """Only count what would be redriven."""
    rate_per_second: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """The most a second; 0 is as fast as the log takes them."""
    most_redrives: Annotated[int | None, Field(ge=1, le=1_000)] = 3
    """Leave out what has been redriven this often already; null leaves out none."""


class DiscardRequest(_Chosen):
    """Which dead letters to give up, and why (kept with them)."""

    why: Annotated[str, Field(min_length=1, max_length=1000, pattern="^[^\\x00]*$")]


class DeadLetterView(Model):
    """A dead letter without its bytes; `size` is its body's. Times are RFC 3339, UTC."""

    id: int
    kind: str
    message_id: str | None
    conversation_id: str | None
    reason: str
    error: str
    attempts: int
    redrives: int
    failed_at: str
    state: Literal["pending", "redriven", "discarded"]
    transport: str
    topic: str
    partition: int
    offset: str
    size: int
    settled_at: str | None
    settled_by: str | None
    settled_why: str | None


class DeadLetterPage(Model):
    """A page of dead letters, newest first."""

    items: list[DeadLetterView]
    next: str | None
    has_more: bool


class Header(Model):
    """One header of a record; what is not UTF-8 in it is written as escapes."""

    name: str
    value: str


class FullDeadLetter(DeadLetterView):
    """A dead letter with its record.

    `body` is null where it is not UTF-8; the bytes are always whole in `bodyBase64`.
    """

    key: str
    body: str | None
    body_base64: str
    headers: list[Header]


class RedrivePreview(Model):
    """What a redrive would take."""

    letters: int
    by_reason: dict[str, int]
    redriven_too_often: int


class Started(Model):
    """A redrive has begun."""

    redrive_id: str


class RedriveView(Model):
    """How far a redrive is; `stalled`: it should be running and has not been heard of."""

    id: str
    state: Literal["running", "done", "cancelled", "interrupted"]
    stalled: bool
    total: int
    redriven: int
    failed: int
    rate: int
    error: str | None
    started_by: str
    started_at: str
    finished_at: str | None


class Redrives(Model):
    """The latest redrives, newest first."""

    items: list[RedriveView]


class Discarded(Model):
    """How many dead letters were given up."""

    discarded: int
