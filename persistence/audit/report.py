"""The findings of an audit and the actions of a repair: ids and positions, never content."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from otel.losses import Loss
from persistence.store.row_losses import RowLoss

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
    """A row of ``messages``; ``seq`` distinguishes it. Times are RFC 3339, UTC."""

    seq: int
    message_id: str
    created_at: str


class Duplicate(msgspec.Struct, frozen=True, rename="camel"):
    """Several rows of one idempotency key: the earliest should stay, the others go.

    ``message_id`` is the id that stays: the one derived from the key if a copy has it (senders were
    told that id), otherwise the earliest row's.
    """

    idempotency_key: str
    message_id: str
    kept: AuditRow
    surplus: Sequence[AuditRow]


class Lack(StrEnum):
    """A row or dead letter that a settled record lacks."""

    ROW = "row"
    """A message or a receipt without a row and without a dead letter."""
    DEAD_LETTER = "dead_letter"
    """Undecodable bytes, or a key with another body, without a dead letter."""


class Unaccounted(msgspec.Struct, frozen=True, rename="camel"):
    """A record before the position that has neither a row nor a dead letter."""

    partition: int
    offset: str
    message_id: str | None
    lacks: Lack


class OwnId(msgspec.Struct, frozen=True, rename="camel"):
    """A record with another id than the derived one, and its row under that id.

    An earlier release stored it so. Nothing is missing, and it is not compared with its row.
    """

    partition: int
    offset: str
    message_id: str


class Differing(msgspec.Struct, frozen=True, rename="camel"):
    """A row that differs from its record in the log; ``columns`` are the differing columns."""

    partition: int
    offset: str
    message_id: str
    seq: int
    columns: Sequence[str]


class Disorder(msgspec.Struct, frozen=True, rename="camel"):
    """A message that readers see before one that is ahead of it in the log, in one conversation."""

    partition: int
    offset: str
    message_id: str
    seq: int
    after_seq: int


class Range(msgspec.Struct, frozen=True, rename="camel"):
    """The range of one partition that was compared: settled records that the log still holds.

    ``lost`` records should be in the log but are not: nothing can be said about them.
    """

    partition: int
    records: int
    first: str | None
    last: str | None
    lost: int = 0


class AuditReport(msgspec.Struct, frozen=True, rename="camel"):
    """The findings. ``missing_constraints`` are constraints that the database lacks."""

    transport: str
    rows: int
    ranges: Sequence[Range]
    missing_constraints: Sequence[str]
    duplicates: Sequence[Duplicate]
    unaccounted: Sequence[Unaccounted]
    differing: Sequence[Differing]
    disorders: Sequence[Disorder]
    own_ids: Sequence[OwnId] = ()
    """Records with an own id; nothing is wrong with them."""
    loss: Loss | None = None
    """The records that the log lost, as far as it counts them; they were not compared."""
    rows_gone: RowLoss | None = None
    """Records without a row that the log no longer held when a worker came to them."""

    @property
    def lost(self) -> int:
        """The number of records that the log lost; they were not compared."""
        return sum(stretch.lost for stretch in self.ranges)

    @property
    def are_records_gone(self) -> bool:
        """Whether records are gone that have no row, or it is unknown how many."""
        is_healed = self.loss is None or self.loss.is_healed
        return not is_healed or self.rows_gone is not None

    @property
    def clean(self) -> bool:
        """Whether nothing was found in the records and rows that could be compared."""
        return not (
            self.missing_constraints
            or self.duplicates
            or self.unaccounted
            or self.differing
            or self.disorders
        )


class RepairReport(msgspec.Struct, frozen=True, rename="camel"):
    """A repair's changes, and the findings that it left."""

    removed: Sequence[Duplicate]
    """Duplicate rows that were deleted; their receipts were moved to the row that stays."""
    receipts_removed: int
    """Receipts that were duplicates, or had no message, while a constraint was missing."""
    constraints: Sequence[str]
    """Constraints that were restored."""
    inserted: Sequence[Unaccounted]
    """Rows made from the log. They are last in their conversations, which readers have passed."""
    dead_lettered: Sequence[Unaccounted]
    """Records that can't be rows, appended to the dead-letter log."""
    restored: Sequence[Differing]
    """Rows corrected from the log."""
    disorders: Sequence[Disorder]
    """Messages out of order. They stay: renumbering would move messages that readers have seen."""
