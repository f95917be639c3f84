"""A row of ``messages`` as a search finds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from ingress.console.views import FoundMessage, Matched
from persistence.reads.messages import StoredPosition
from persistence.timestamps import rfc3339

__all__ = ["found_row"]


def found_row(
    row: asyncpg.Record | Mapping[str, Any],
    matched: list[Matched],
    *,
    position: StoredPosition | None = None,
) -> FoundMessage:
    """Return the message of a row, with what it was found by and where it stands in a log."""
    return FoundMessage(
        message_id=str(row["id"]),
        matched=matched,
        state="persisted",
        conversation_id=row["conversation_id"],
        sender_id=row["sender_id"],
        client_message_id=row["client_message_id"],
        correlation_id=row["correlation_id"],
        accepted_at=rfc3339(row["accepted_at"]),
        position=position,
    )
