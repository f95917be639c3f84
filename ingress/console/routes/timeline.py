"""The route of one message's timeline."""

from __future__ import annotations

from fastapi import APIRouter

from ingress.console.routes.state import Console
from ingress.console.views import Timeline
from ingress.routes.descriptions import problems
from ingress.routes.messages import MessageId, canonical, not_found
from ingress.schema.problems import DATABASE_UNAVAILABLE, INVALID, LOG_UNAVAILABLE, NOT_FOUND
from ingress.web.access import ReadKey

__all__ = ["router"]

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/messages/{messageId}",
    summary="Read a message's whole story",
    description="Every step with its time and place, from acceptance to the row, the dead "
    "letter and the receipts.",
    operation_id="getTimeline",
    responses=problems(INVALID, NOT_FOUND, DATABASE_UNAVAILABLE, LOG_UNAVAILABLE),
)
async def get_timeline(message_id: MessageId, console: Console, key: ReadKey) -> Timeline:
    identifier = canonical(message_id)
    found = await console.timelines.of(identifier)
    if found is None:
        raise not_found(identifier)
    if key is not None and not key.sees(found.message.sender_id, found.message.conversation_id):
        raise not_found(identifier)
    return found
