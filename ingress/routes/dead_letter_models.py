"""Bodies of the dead-letter routes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, model_validator

from ingress.routes.models import RFC3339, UUID_PATTERN, Model, Reasoned, Text
from ingress.schema.structs import ApiStruct
from persistence.dead_letters.dead_letters import StoredDeadLetter
from persistence.dead_letters.redrive import RedriveProgress
from persistence.json_types import Id
from transport.contract import Reason

__all__ = [
    "LARGEST",
    "DeadLetterFilter",
    "DeadLetterPage",
    "DeadLetterQuery",
    "DiscardRequest",
    "Discarded",
    "FullDeadLetter",
    "RecordHeader",
    "RedriveAnswer",
    "RedriveRequest",
    "Redrives",
    "Whole",
]

LARGEST = 2**53 - 1
"""The largest id: the largest integer that every JSON library reads exactly (RFC 8259, 6)."""


_UUID = re.compile(UUID_PATTERN)


def _integral(value: Any) -> Any:
    """Return 3 for ``3.0``, which JSON Schema accepts as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rfc3339(value: Any) -> Any:
    # Pydantic would take a bare number for seconds since 1970.
    if value is None or (isinstance(value, str) and RFC3339.fullmatch(value)):
        return value
    raise ValueError("should be an RFC 3339 time with its offset")


def _uuid(value: Any) -> Any:
    if value is None or (isinstance(value, str) and _UUID.fullmatch(value)):
        return value
    raise ValueError("should be a UUID")


_INTEGRAL = BeforeValidator(_integral)
Whole = Annotated[int, Field(ge=1, le=LARGEST), _INTEGRAL]
Moment = Annotated[AwareDatetime | None, Field(strict=False), BeforeValidator(_rfc3339)]
Uuid = Annotated[UUID | None, Field(strict=False), BeforeValidator(_uuid)]


class DeadLetterFilter(Model):
    """A selection of pending dead letters: all given conditions must hold. `{}` selects all."""

    reason: Annotated[Reason | None, Field(strict=False)] = None
    cause: Text | None = None
    """The `cause` of a dead letter, or of a group of them."""
    conversation_id: Text | None = None
    message_id: Uuid = None
    failed_after: Moment = None
    failed_before: Moment = None


class DeadLetterQuery(DeadLetterFilter):
    """The query of a listing: conditions, a cursor and a page size."""

    # A query is text, so numbers are converted from text.
    model_config = ConfigDict(strict=False)

    text: Text | None = None
    """A part of the error's text, in upper or lower case."""
    state: Literal["pending", "redriven", "discarded", "any"] = "pending"
    after: Annotated[str | None, Field(max_length=64)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


def _one_of_two(schema: dict[str, Any]) -> None:
    """Add to the schema the rule that the validator checks: either `ids` or `filter`, not null."""
    members = schema["properties"]
    for name in ("ids", "filter"):
        (members[name],) = [kind for kind in members[name]["anyOf"] if kind.get("type") != "null"]
    schema["oneOf"] = [{"required": ["ids"]}, {"required": ["filter"]}]


class _Chosen(Model):
    model_config = ConfigDict(json_schema_extra=_one_of_two)

    ids: Annotated[list[Whole] | None, Field(min_length=1, max_length=1000)] = None
    filter: DeadLetterFilter | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = self.model_fields_set & {"ids", "filter"}
        if len(given) != 1 or getattr(self, next(iter(given))) is None:
            raise ValueError("give either ids or filter (an empty filter is all that are pending)")
        return self


class RedriveRequest(_Chosen):
    """The dead letters to append to the primary log again, and the rate."""

    dry_run: bool = False
    """Whether to count the dead letters only."""
    rate_per_second: Annotated[int, Field(ge=0, le=1_000_000), _INTEGRAL] = 0
    """The most dead letters a second; 0 is as fast as the log takes them."""
    most_redrives: Annotated[int, Field(ge=1, le=1_000), _INTEGRAL] | None = 3
    """Leave out dead letters that were redriven this often already; null leaves out none."""
    redrive_id: Uuid = None
    """An id of your own for the redrive. With it, a request that is sent again begins no other."""
    why: Reasoned | None = None
    """The reason, kept on record with the caller and the time."""


class DiscardRequest(_Chosen):
    """The dead letters to give up, and the reason (kept with them)."""

    why: Reasoned
    dry_run: bool = False
    """Whether to count the dead letters only."""
    most: Annotated[int, Field(ge=1, le=100_000), _INTEGRAL] | None = None
    """The most dead letters to discard, oldest first; null is all. If fewer are discarded, none of
    the selection is left."""
    up_to: Annotated[int, Field(ge=0, le=LARGEST), _INTEGRAL] | None = None
    """The largest id to discard. The `upTo` of a dry run leaves out what came after it, however
    often the request is sent. Null is all that there are."""


class DeadLetterPage(ApiStruct, frozen=True):
    """A page of dead letters, newest first.

    With conditions that have no index (a text, a time), a page may have few items, or none, and
    still a `next`: the search stopped after a number of dead letters, and goes on from there.
    """

    items: list[StoredDeadLetter]
    next: str | None
    has_more: bool


class RecordHeader(ApiStruct, frozen=True):
    """One header of a record. Bytes that are not UTF-8 are written as escapes."""

    name: str
    value: str


class FullDeadLetter(StoredDeadLetter, ApiStruct, frozen=True):
    """A dead letter with its record.

    `body` is null if the body is not UTF-8. `bodyBase64` always has all bytes.
    """

    key: str
    body: str | None
    body_base64: str
    headers: list[RecordHeader]


class RedriveAnswer(ApiStruct, frozen=True, omit_defaults=True):
    """The id of the redrive that has begun, or the counts of a dry run.

    Both are one model, because most generated clients have one model for all successful answers.
    """

    redrive_id: Id | None = None
    letters: int | None = None
    by_reason: dict[str, int] | None = None
    redriven_too_often: int | None = None


class Redrives(ApiStruct, frozen=True):
    """The latest redrives, newest first."""

    items: list[RedriveProgress]


class Discarded(ApiStruct, frozen=True):
    """The number of dead letters that were given up, or would be in a dry run."""

    discarded: int
    up_to: int
    """The largest id that could be among them."""
