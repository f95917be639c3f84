"""Request for a backfill, and the progress of a run."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from migration_guide.parity.comparison import ParityLimits

__all__ = ["SETTLE", "BackfillOrder", "BackfillStatus", "Request"]

SETTLE = 15.0
"""Default for ``limits.settle``: seconds in which the live shadow copies a record by itself."""


class Request(msgspec.Struct, frozen=True):
    """Request for a backfill. ``since``: seconds since the epoch; ``None`` for all records.

    ``rate``: records a second at most, 0 for no limit. ``everything``: also copy records that the
    target has trimmed, or is too young to have had, though they are settled in the source.
    ``by``: the operator. ``limits.settle``: seconds; younger records are left to the live shadow.
    ``resume``: the backfill to go on with, if it is not the latest of an equal order.
    """

    from_rows: bool = False
    since: float | None = None
    rate: int = 1000
    everything: bool = False
    by: str = ""
    limits: ParityLimits = ParityLimits(settle=SETTLE)
    resume: UUID | None = None


class BackfillOrder(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Identity of a backfill: an unfinished one with an equal order is resumed."""

    source: str
    target: str
    from_rows: bool = False
    since: float | None = None
    everything: bool = False
    settle: float = SETTLE


class BackfillStatus(msgspec.Struct):
    """The progress of a run; read it while it runs. Counts are records.

    ``present``: the target remembered them. ``refused``: no envelope can carry them, so they stay
    missing. ``erased``: their messages were erased; they stay missing, too. ``uncopied``: older
    than the records that the target holds, and left alone.
    """

    stage: Literal["comparing", "appending", "done"] = "comparing"
    examined: int = 0
    missing: int = 0
    appended: int = 0
    present: int = 0
    refused: int = 0
    erased: int = 0
    uncopied: int = 0
    gaps_repaired: int = 0
