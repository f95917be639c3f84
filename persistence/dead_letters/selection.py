"""The filter of dead letters that listing, redriving and discarding share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from persistence.tables.states import LetterState
from transport.contract import Reason

__all__ = ["Condition", "IndexScan", "Selection", "described", "index_scan", "where"]


Condition = tuple[str, object]
"""SQL with one ``{}`` for its argument, and the argument. ``None``: not part of the selection."""

_IDS = "id = ANY({}::bigint[])"
_REASON = "reason = {}"
_CAUSE = "cause = {}"
_CONVERSATION = "conversation_id = {}"
_MESSAGE = "message_id = {}"
_STATE = "state = {}"

_ABOVE_ALL = 2**63 - 1
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_LISTED = 20


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Dead letters that meet every given condition; all letters without any.

    ``failed_after`` and ``failed_before`` bound the time of the last failure, with UTC offsets.
    """

    ids: tuple[int, ...] | None = None
    reason: Reason | None = None
    cause: str | None = None
    conversation_id: str | None = None
    message_id: UUID | None = None
    failed_after: datetime | None = None
    failed_before: datetime | None = None


def described(selection: Selection) -> str:
    """Return a selection as text, for the record of operator actions."""
    chosen = msgspec.to_builtins(selection)
    if ids := chosen.pop("ids", None):
        listed = ", ".join(str(identifier) for identifier in ids[:_LISTED])
        return f"dead letters {listed}{f' and {len(ids) - _LISTED} more' * (len(ids) > _LISTED)}"
    conditions = ", ".join(f"{name} {value}" for name, value in chosen.items())
    return f"dead letters with {conditions}" if conditions else "all pending dead letters"


def where(selection: Selection, *more: Condition) -> tuple[str, list[object]]:
    """Return the condition as SQL with ``$1`` ..., and its arguments.

    ``more`` are further conditions of the caller. A condition that is not set does not appear in
    the SQL, so each query can use its index. The state ``pending`` is a constant in the SQL,
    because some indexes hold only those letters.
    """
    return _joined([*_conditions(selection), *more], 0)


class IndexScan(NamedTuple):
    """A selection as two conditions: a range of one index, and a filter of its entries.

    The range is written as row comparisons, and ``order`` names every column of the index. Another
    index would have to sort, so the planner takes this one whatever its statistics say. ``left`` is
    empty if the range alone decides; its arguments follow those of the range.
    """

    stretch: str
    order: str
    values: list[object]
    left: str
    left_values: list[object]


def index_scan(
    selection: Selection, *, state: str | None, before: int | None, more: Sequence[Condition]
) -> IndexScan:
    """Return a selection, below the id ``before``, for a query that reads one index downwards.

    ``more`` are further conditions of the caller, which no index can find.
    """
    conditions = [*_conditions(selection), (_STATE, state), *more]
    given = {text: value for text, value in conditions if value is not None}
    pending = state == LetterState.PENDING
    found_by: tuple[str, ...] = ()
    if _MESSAGE in given:
        found_by = (_MESSAGE,)
    elif _CONVERSATION in given:
        found_by = (_CONVERSATION,)
    elif _REASON in given and pending:
        found_by = (_REASON, _CAUSE) if _CAUSE in given else (_REASON,)
    elif _STATE in given and _IDS not in given:
        found_by = (_STATE,)
    values = [given.pop(column) for column in found_by]
    columns = [*(column.partition(" ")[0] for column in found_by), "id"]
    places = [f"${number}" for number in range(1, len(values) + 1)]
    row = ", ".join(columns)
    least, most = ", ".join([*places, "0"]), ", ".join([*places, f"${len(values) + 1}"])
    stretch = f"({row}) >= ({least}) AND ({row}) < ({most})"
    if pending and _REASON in found_by:
        given.pop(_STATE)
        stretch += f" AND state = '{LetterState.PENDING}'"  # the index has only pending letters
    values.append(_ABOVE_ALL if before is None else before)
    left, left_values = _joined([*given.items()], len(values)) if given else ("", [])
    order = ", ".join(f"{column} DESC" for column in columns)
    return IndexScan(stretch, order, values, left, left_values)


def _conditions(selection: Selection) -> list[Condition]:
    return [
        (_IDS, selection.ids),
        (_REASON, selection.reason and selection.reason.value),
        (_CAUSE, selection.cause),
        (_CONVERSATION, selection.conversation_id),
        (_MESSAGE, selection.message_id),
        ("failed_at >= {}", _in_utc(selection.failed_after)),
        ("failed_at < {}", _in_utc(selection.failed_before)),
    ]


def _in_utc(moment: datetime | None) -> datetime | None:
    """Return ``moment``, or the nearest time that exists in UTC: the driver converts it."""
    return moment and min(max(moment, _EARLIEST), _LATEST)


def _joined(conditions: Sequence[Condition], before: int) -> tuple[str, list[object]]:
    texts: list[str] = []
    values: list[object] = []
    for text, value in conditions:
        if value is None:
            continue
        if text == _STATE and value == LetterState.PENDING:
            texts.append(text.format(f"'{LetterState.PENDING}'"))
            continue
        values.append(value)
        texts.append(text.format(f"${before + len(values)}"))
    return " AND ".join(texts) or "true", values
