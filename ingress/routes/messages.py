"""``GET /api/messages/{id}``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path

from ingress.messages import Dead, Found, Pending, visible
from ingress.routes.descriptions import problems
from ingress.routes.models import (
    MOST_RECEIPTS,
    RFC3339,
    UUID_PATTERN,
    DeadLetterSummary,
    MessageSummary,
    MessageView,
    PayloadView,
)
from ingress.routes.state import Routes
from ingress.schema.problems import (
    DATABASE_UNAVAILABLE,
    GONE,
    INVALID,
    LOG_UNAVAILABLE,
    NOT_FOUND,
    Problem,
)
from ingress.web.access import ReadKey
from persistence.reads import messages as queries
from persistence.reads.messages import StoredMessage, StoredPosition, StoredReceipt
from persistence.reads.tombstones import Buried
from transport.contract import Reason
from transport.message.envelope import Message
from transport.message.payload import Payload

__all__ = [
    "MessageId",
    "canonical",
    "gone",
    "not_found",
    "payload_apart",
    "persisted_members",
    "router",
    "trace_link",
    "view",
]

MessageId = Annotated[
    str,
    Path(
        alias="messageId",
        pattern=UUID_PATTERN,
        description="The messageId of an acknowledgement.",
        json_schema_extra={"format": "uuid"},
    ),
]
_CONTENT_FAULTS = {
    Reason.PAYLOAD_MISSING.value: "The payload store did not give the content.",
    Reason.PAYLOAD_CORRUPT.value: "The payload store has other content than was sent.",
}
"""Texts that replace a dead letter's error, which may name servers, buckets and keys."""


def canonical(message_id: str) -> str:
    """Return the id in lower case, as the service spells it."""
    return message_id.lower()


def not_found(message_id: str) -> Problem:
    """Return the problem (404) for a message that was not found."""
    return Problem(NOT_FOUND, f"There is no message {message_id}.")


def gone(message_id: str, found: Buried) -> Problem:
    """Return the problem (410) for a message that was archived or erased."""
    when = f" at {found.at}" if found.at else ""
    return Problem(GONE, f"Message {message_id} was {found.state}{when}.")


router = APIRouter(prefix="/api", tags=["messages"])


@router.get(
    "/messages/{messageId}",
    summary="Read one message, wherever it is",
    description="The message is found as a row, as a dead letter, or in the log where it waits. "
    "Fields that are not known yet are null. An archived or erased message has its id and its "
    "time of acceptance only.",
    operation_id="getMessage",
    responses=problems(INVALID, NOT_FOUND, DATABASE_UNAVAILABLE, LOG_UNAVAILABLE),
)
async def get_message(message_id: MessageId, routes: Routes, key: ReadKey) -> MessageView:
    identifier = canonical(message_id)
    found = await routes.messages.find(identifier, content=True)
    if found is None or not visible(found, key):
        raise not_found(identifier)
    if isinstance(found, Pending | Buried):
        return view(identifier, found, routes.trace_url)
    async with asyncio.timeout(routes.timeout_seconds):
        elsewhere = await queries.positions(routes.pool, identifier)
        # A dead letter has no receipts, because a receipt's row needs its message's row.
        persisted = isinstance(found, StoredMessage)
        receipts = (
            await queries.receipts(routes.pool, identifier, MOST_RECEIPTS) if persisted else ()
        )
    return view(identifier, found, routes.trace_url, receipts, elsewhere)


def view(
    identifier: str,
    found: Found,
    trace_url: str | None,
    receipts: Sequence[StoredReceipt] = (),
    elsewhere: Sequence[StoredPosition] = (),
) -> MessageView:
    """Return the answer for a message, in whichever state it was found.

    Args:
        identifier: The message's id.
        found: The message.
        trace_url: The template of a trace's URL, if it is configured.
        receipts: The receipts of a persisted message.
        elsewhere: The message's positions in other logs.
    """
    if isinstance(found, StoredMessage):
        return _persisted(found, receipts, elsewhere, trace_url)
    if isinstance(found, Pending):
        return _pending(identifier, found, trace_url)
    if isinstance(found, Buried):
        return _buried(identifier, found)
    return _dead(identifier, found, elsewhere)


def _persisted(
    row: StoredMessage,
    receipts: Sequence[StoredReceipt],
    elsewhere: Sequence[StoredPosition],
    trace_url: str | None,
) -> MessageView:
    own = StoredPosition(row.transport, row.partition, row.offset) if row.offset else None
    return MessageView(
        **persisted_members(row),
        state="persisted",
        trace_url=trace_link(trace_url, row.trace_id),
        positions=_positions(own, elsewhere),
        attempts=row.attempts,
        receipts=list(receipts),
    )


def _pending(identifier: str, found: Pending, trace_url: str | None) -> MessageView:
    return MessageView(
        **_content(found.message),
        message_id=identifier,
        state="pending",
        accepted_at=_time(found.accepted_at),
        correlation_id=found.correlation_id,
        trace_id=found.trace_id,
        trace_url=trace_link(trace_url, found.trace_id),
        positions=[StoredPosition(found.transport, found.partition, found.offset)],
        receipts=[],
    )


def _buried(identifier: str, found: Buried) -> MessageView:
    return MessageView(
        message_id=identifier,
        state=found.state,
        accepted_at=found.accepted_at,
        correlation_id=found.correlation_id,
        positions=[],
        receipts=[],
    )


def _dead(identifier: str, found: Dead, elsewhere: Sequence[StoredPosition]) -> MessageView:
    lost, message = found.lost, found.message
    own = StoredPosition(lost.transport, lost.partition, lost.offset)
    return MessageView(
        **_content(message),
        message_id=identifier,
        state="dead_lettered",
        accepted_at=_time(message.accepted_at) if message else None,
        correlation_id=message.correlation_id if message else None,
        positions=_positions(own, elsewhere),
        attempts=lost.attempts,
        receipts=[],
        dead_letter=DeadLetterSummary(
            id=lost.id,
            reason=lost.reason,
            error=_CONTENT_FAULTS.get(lost.reason, lost.error),
            failed_at=lost.failed_at,
        ),
    )


def _positions(
    own: StoredPosition | None, elsewhere: Sequence[StoredPosition]
) -> list[StoredPosition]:
    """Return the position that the message was read from, then its positions in other logs."""
    others = [place for place in elsewhere if own is None or place.transport != own.transport]
    return [own, *others] if own else others


_OF_MESSAGE = set(MessageSummary.__struct_fields__) & set(Message.__struct_fields__)
_CONTENT = _OF_MESSAGE - {"message_id", "accepted_at", "correlation_id"}
"""The fields that a message's sender wrote."""


def persisted_members(row: StoredMessage) -> dict[str, Any]:
    """Return the members that a row has in all answers, alone or in a conversation."""
    members = {name: getattr(row.message, name) for name in _OF_MESSAGE}
    members |= _payload(row.message)
    return {**members, "persisted_at": row.persisted_at, "trace_id": row.trace_id}


def _content(message: Message | None) -> dict[str, Any]:
    if message is None:
        return {}
    return {name: getattr(message, name) for name in _CONTENT} | _payload(message)


def payload_apart(message: Message) -> Payload | None:
    """Return the message's payload if only the payload store has the content, else ``None``."""
    payload = message.payload
    return None if payload is None or message.content or not payload.bytes else payload


def _payload(message: Message) -> dict[str, Any]:
    """Return the members ``payload`` and ``content`` if the content is stored apart."""
    payload = payload_apart(message)
    if payload is None:
        return {"payload": None}
    url = f"/api/messages/{message.message_id}/content"
    shown = PayloadView(payload.bytes, payload.sha256, message.content_type, url)
    return {"payload": shown, "content": None}


def _time(text: str) -> str | None:
    """Return ``text`` if it is an RFC 3339 time: any producer may have written it."""
    if RFC3339.fullmatch(text):
        try:
            datetime.fromisoformat(text.upper())
        except ValueError:
            return None
        return text
    return None


def trace_link(template: str | None, trace_id: str | None) -> str | None:
    """Return the URL of a trace. The id may be any text, and is escaped."""
    if not template or not trace_id:
        return None
    return template.replace("{traceId}", quote(trace_id, safe=""))
