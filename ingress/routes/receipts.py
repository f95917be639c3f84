"""``POST`` and ``GET /api/messages/{id}/receipts``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ingress.routes.descriptions import json_body, problems
from ingress.routes.messages import MessageId, canonical
from ingress.routes.models import (
    MOST_RECEIPTS,
    ReceiptAck,
    ReceiptList,
    ReceiptRequest,
)
from ingress.routes.state import Routes
from ingress.routes.traced import trace_of
from ingress.schema import problems as p
from ingress.web.access import ProduceKey, ReadKey
from ingress.web.headers import correlation_id

__all__ = ["router"]

_UNAVAILABLE = (p.LOG_UNAVAILABLE, p.DATABASE_UNAVAILABLE)
_REFUSED = (p.MALFORMED, p.INVALID, p.NOT_FOUND, p.GONE, p.STATE, p.TOO_LARGE, p.MEDIA)

router = APIRouter(prefix="/api/messages/{messageId}/receipts", tags=["receipts"])


@router.post(
    "",
    status_code=202,
    summary="Record that a user got or saw a message",
    description="Idempotent: one receipt for each message, user and state. A repeat is "
    "answered 200 with the time of the first.",
    operation_id="postReceipt",
    dependencies=[json_body()],
    responses={
        200: {"model": ReceiptAck, "description": "Recorded before."},
        **problems(*_REFUSED, p.OVERLOADED, p.OUTCOME_UNKNOWN, *_UNAVAILABLE),
    },
)
async def post_receipt(
    *,
    message_id: MessageId,
    body: ReceiptRequest,
    request: Request,
    response: Response,
    routes: Routes,
    key: ProduceKey,
) -> ReceiptAck:
    if key is not None:
        key.answers_for(sender=body.user_id)
    routes.commits.admit()
    headers = dict(request.scope["headers"])
    identifier = canonical(message_id)
    correlation = correlation_id(headers) or identifier
    stored = await routes.receipts.record(
        identifier,
        body.user_id,
        body.state,
        correlation_id=correlation,
        trace=trace_of(request.scope),
        key=key,
    )
    response.status_code = 202 if stored.fresh else 200
    response.headers["X-Correlation-ID"] = correlation
    return ReceiptAck(
        message_id=identifier,
        user_id=body.user_id,
        state=body.state,
        at=stored.accepted_at,
        idempotent_hit=not stored.fresh,
        correlation_id=stored.correlation_id,
    )


@router.get(
    "",
    summary="List a message's receipts, oldest first",
    description=f"The first {MOST_RECEIPTS:,}; `hasMore` tells whether there are others.",
    operation_id="listReceipts",
    responses=problems(p.INVALID, p.NOT_FOUND, p.GONE, *_UNAVAILABLE),
)
async def list_receipts(message_id: MessageId, routes: Routes, key: ReadKey) -> ReceiptList:
    rows = await routes.receipts.of(canonical(message_id), MOST_RECEIPTS + 1, key=key)
    return ReceiptList(items=list(rows[:MOST_RECEIPTS]), has_more=len(rows) > MOST_RECEIPTS)
