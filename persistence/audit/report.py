"""Findings of an audit, and the actions of a repair. Ids and places only; never content."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

__all__ = [
    "AuditReport",
    "AuditRow",
    "Differing",
    "Disorder",
    "Duplicate",
    "Lack",
    "OwnId",
    "Range",
    "RepairReport",
    "Unaccounted",
]


class AuditRow(msgspec.Struct, frozen=True, rename="camel"):
    """A row of ``messages``; ``seq`` tells it from any other. Times are RFC 3339, UTC."""

    seq: int
    message_id: str
    created_at: str


class Duplicate(msgspec.Struct, frozen=True, rename="camel"):
    """Several rows of one idempotency key: the earliest is to stay, the rest to go.

    ``message_id`` is the id that stays: the one derived from the key where a copy has it (it is
    what senders were told), else the earliest's.
    """

    idempotency_key: str
    message_id: str
    kept: AuditRow
    surplus: Sequence[AuditRow]


class Lack(StrEnum):
    """A row or dead letter that an acknowledged record lacks."""

    ROW = "row"
    """A message or a receipt that is no row and no dead letter."""
    DEAD_LETTER = "dead_letter"
    """Undecodable bytes, or a key with another body, without a dead letter."""


class Unaccounted(msgspec.Struct, frozen=True, rename="camel"):
    """A record that is acknowledged and of which nothing is left."""

    partition: int
    offset: str
    message_id: str | None
    lacks: Lack


class OwnId(msgspec.Struct, frozen=True, rename="camel"):
    """A record with another id than the derived one, and its row under that id.

    An earlier release stored it so. It lacks nothing, and is not held against its row.
    """

    partition: int
    offset: str
    message_id: str


class Differing(msgspec.Struct, frozen=True, rename="camel"):
    """A row that is not what the log says was sent; ``columns`` are the ones that differ."""

    partition: int
    offset: str
    message_id: str
    seq: int
    columns: Sequence[str]


class Disorder(msgspec.Struct, frozen=True, rename="camel"):
    """A message read before one that stands ahead of it in the log, in the same conversation."""

    partition: int
    offset: str
    message_id: str
    seq: int
    after_seq: int


class Range(msgspec.Struct, frozen=True, rename="camel"):
    """Range of one partition that was compared: acknowledged records the log still holds.

    ``lost`` records it holds no longer, though it should: nothing can be said of those.
    """

    partition: int
    records: int
    first: str | None
    last: str | None
    lost: int = 0


class AuditReport(msgspec.Struct, frozen=True, rename="camel"):
    """The findings. ``missing_constraints`` are rules of the schema that the database lacks."""

    transport: str
    rows: int
    ranges: Sequence[Range]
    missing_constraints: Sequence[str]
    duplicates: Sequence[Duplicate]
    unaccounted: Sequence[Unaccounted]
    differing: Sequence[Differing]
    disorders: Sequence[Disorder]
    own_ids: Sequence[OwnId] = ()
    """Nothing is wrong with these."""

    @property
    def lost(self) -> int:
        """Records that the log ever lost; they are not among what was compared."""
        return sum(stretch.lost for stretch in self.ranges)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (
            self.missing_constraints
            or self.duplicates
            or self.unaccounted
            or self.differing
            or self.disorders
        )


class RepairReport(msgspec.Struct, frozen=True, rename="camel"):
    """A repair's changes, and the findings it left."""

    removed: Sequence[Duplicate]
    """Surplus rows deleted; their receipts went to the row that was kept."""
    receipts_removed: int
    """Receipts that were doubled, or of no message, while the rule against it was missing."""
    constraints: Sequence[str]
    """Rules of the schema that were put back."""
    inserted: Sequence[Unaccounted]
    """Rows made from the log. They stand last in their conversations: readers have passed."""
    dead_lettered: Sequence[Unaccounted]
    """Records that can't be rows, appended to the dead-letter log."""
    restored: Sequence[Differing]
    """Rows set to what the log says."""
    disorders: Sequence[Disorder]
    """Left as they are: renumbering would move messages that readers have seen."""
