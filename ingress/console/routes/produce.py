"""The route that sends an operator's test message, the same way as every message."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import ConfigDict, Field

from ingress.console.routes.state import Console
from ingress.routes.descriptions import json_body, problems
from ingress.routes.models import Model, Reasoned
from ingress.routes.state import Caller
from ingress.routes.traced import trace_of
from ingress.schema import problems as p
from ingress.schema.json_faults import malformed
from ingress.schema.responses import Ack
from ingress.schema.structs import ApiStruct
from ingress.web.access import ADMIN, ProduceKey
from ingress.web.headers import CORRELATION_PATTERN, RequestContext
from persistence.json_types import Small

__all__ = ["router"]

_REFUSED = (p.MALFORMED, p.INVALID, p.TOO_LARGE, p.MEDIA, p.KEY_CONFLICT)
_UNAVAILABLE = (p.OVERLOADED, p.OUTCOME_UNKNOWN, p.LOG_UNAVAILABLE, p.DATABASE_UNAVAILABLE)

router = APIRouter(prefix="/api/console", tags=["console"])


class TestMessage(Model):
    """A message to send, with the reason. Its members are those of `POST /api/messages`."""

    # The message's members are not checked here: the intake checks them, as in every message.
    model_config = ConfigDict(extra="allow")

    correlation_id: Annotated[str, Field(pattern=CORRELATION_PATTERN)] | None = None
    """The correlation id, in place of `X-Correlation-ID`; by default the message id."""
    why: Reasoned


class Produced(Ack, ApiStruct, frozen=True):
    """The acknowledgement, as `POST /api/messages` returns it, with the key and the partition."""

    status: Literal[200, 202]
    idempotency_key: str
    """The message's key: sender, conversation and client message id."""
    log: str
    partition: Small


@router.post(
    "/messages",
    status_code=202,
    summary="Send a test message, on record",
    description="Like `POST /api/messages`, but recorded in the actions before it is sent. The "
    "key needs both scopes, `produce` and `admin`.",
    operation_id="produceTestMessage",
    dependencies=[Depends(ADMIN.key), json_body()],
    responses={
        200: {"model": Produced, "description": "Accepted before."},
        **problems(*_REFUSED, *_UNAVAILABLE),
    },
)
async def produce(
    *,
    body: TestMessage,
    request: Request,
    response: Response,
    who: Caller,
    console: Console,
    key: ProduceKey,  # the scope admin is not enough to send for a sender
) -> Produced:
    context = RequestContext(body.correlation_id, trace_of(request.scope))
    try:
        given = json.dumps(body.model_extra).encode()
    except RecursionError:
        raise malformed("The body is nested too deeply.") from None
    item = console.intake.message(given, context, None)
    if key is not None:
        item.admit(key)
    console.commits.admit()
    target = f"a message of {item.request.sender_id} in {item.request.conversation_id}"
    async with console.actions.recorded("produce", who=who, target=target, why=body.why) as entry:
        await console.commits.submit((item,))
        ack = item.answer()
        entry.result = f"message {ack.message_id}{', accepted before' * ack.idempotent_hit}"
    response.status_code = 200 if ack.idempotent_hit else 202
    return Produced(
        **msgspec.structs.asdict(ack),
        status=200 if ack.idempotent_hit else 202,
        idempotency_key=item.key,
        log=console.primary.name,
        partition=item.partition(console.primary.partitions),
    )
