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
"""The largest id, an integer that every JSON library reads exactly (RFC 8259, section 6)."""


_UUID = re.compile(UUID_PATTERN)


def _integral(value: Any) -> Any:
    """Take ``3.0`` for 3, as JSON Schema does."""
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
    """Pending dead letters that meet every condition given; `{}` is all of them."""

    reason: Annotated[Reason | None, Field(strict=False)] = None
    cause: Text | None = None
    """The `cause` of a letter or of a group of letters."""
    conversation_id: Text | None = None
    message_id: Uuid = None
    failed_after: Moment = None
    failed_before: Moment = None


class DeadLetterQuery(DeadLetterFilter):
    """Which page of which dead letters."""

    # A query is text: numbers in it are read as numbers.
    model_config = ConfigDict(strict=False)

    text: Text | None = None
    """Part of the error, in upper or lower case."""
    state: Literal["pending", "redriven", "discarded", "any"] = "pending"
    after: Annotated[str | None, Field(max_length=64)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


def _one_of_two(schema: dict[str, Any]) -> None:
    """Say in the schema what the validator says: one of the two, and not null."""
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
    """Which dead letters to append to the primary log again, and how fast."""

    dry_run: bool = False
    """Only count what would be redriven."""
    rate_per_second: Annotated[int, Field(ge=0, le=1_000_000), _INTEGRAL] = 0
    """The most a second; 0 is as fast as the log takes them."""
    most_redrives: Annotated[int, Field(ge=1, le=1_000), _INTEGRAL] | None = 3
    """Leave out what has been redriven this often already; null leaves out none."""
    why: Reasoned | None = None
    """Kept on record with who asked and when."""


class DiscardRequest(_Chosen):
    """Which dead letters to give up, and why (kept with them)."""

    why: Reasoned
    dry_run: bool = False
    """Only count what would be discarded."""
    most: Annotated[int, Field(ge=1, le=100_000), _INTEGRAL] | None = None
    """Discard the oldest, at most so many; null: all. Where fewer are discarded, none is left."""


class DeadLetterPage(ApiStruct, frozen=True):
    """A page of dead letters, newest first.

    With conditions that no index finds (a text, a time), a page may have few items, or none, and
    a `next`: so many letters were looked at, and the search goes on from there.
    """

    items: list[StoredDeadLetter]
    next: str | None
    has_more: bool


class RecordHeader(ApiStruct, frozen=True):
    """One header of a record; what is not UTF-8 in it is written as escapes."""

    name: str
    value: str


class FullDeadLetter(StoredDeadLetter, ApiStruct, frozen=True):
    """A dead letter with its record.

    `body` is null where it is not UTF-8; the bytes are always whole in `bodyBase64`.
    """

    key: str
    body: str | None
    body_base64: str
    headers: list[RecordHeader]


class RedriveAnswer(ApiStruct, frozen=True, omit_defaults=True):
    """The redrive that has begun (`redriveId`), or, of a dry run, what one would take.

    One model for both: most generated clients know one for all answers that are no errors.
    """

    redrive_id: Id | None = None
    letters: int | None = None
    by_reason: dict[str, int] | None = None
    redriven_too_often: int | None = None


class Redrives(ApiStruct, frozen=True):
    """The latest redrives, newest first."""

    items: list[RedriveProgress]


class Discarded(ApiStruct, frozen=True):
    """How many dead letters were given up, or would be."""

    discarded: int
