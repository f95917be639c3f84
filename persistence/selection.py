"""Which dead letters: the one filter that listing, redriving and discarding share."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from transport.contract import Reason

__all__ = ["Selection", "where"]


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Dead letters that meet every condition given; without any, all of them.

    ``failed_after`` and ``failed_before`` bound, with their offsets, when it last failed.
    """

    ids: tuple[int, ...] | None = None
    reason: Reason | None = None
    conversation_id: str | None = None
    message_id: UUID | None = None
    failed_after: datetime | None = None
    failed_before: datetime | None = None


def where(selection: Selection, *more: tuple[str, object]) -> tuple[str, list[object]]:
    """Return the condition as SQL with ``$1`` ..., and its arguments.

    ``more`` are further conditions of the caller's own, each with one ``{}`` for its argument.
    Conditions that aren't asked for don't appear, so that each query can use its index.
    """
    asked: list[tuple[str, object]] = [
        ("id = ANY({}::bigint[])", selection.ids),
        ("reason = {}", selection.reason and selection.reason.value),
        ("conversation_id = {}", selection.conversation_id),
        ("message_id = {}", selection.message_id),
        ("failed_at >= {}", selection.failed_after),
        ("failed_at < {}", selection.failed_before),
        *more,
    ]
    given = [(text, value) for text, value in asked if value is not None]
    texts = [text.format(f"${number}") for number, (text, _) in enumerate(given, 1)]
    return " AND ".join(texts) or "true", [value for _, value in given]
