"""The request body of the deployment guide as an ordinary pydantic model, and its message."""

from __future__ import annotations

from typing import Annotated

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from transport.clock import now
from transport.message.envelope import Message
from transport.message.identity import idempotency_key, message_id

__all__ = ["MessageBody", "accepted", "encode"]

Id = Annotated[str, Field(min_length=1, max_length=256)]

encode = msgspec.json.Encoder().encode


class MessageBody(BaseModel):
    """The request body, with the fields and limits that the service checks."""

    model_config = ConfigDict(extra="forbid")

    conversationId: Id  # noqa: N815 - the guide's own spelling, with no alias to slow it
    senderId: Id  # noqa: N815
    content: Annotated[str, Field(min_length=1)]
    contentType: Id  # noqa: N815
    clientMessageId: Id  # noqa: N815
    recipientIds: list[Id] = []  # noqa: N815


def accepted(body: MessageBody) -> Message:
    """Return a body as a message, with its key, its id and the time."""
    key = idempotency_key(body.senderId, body.conversationId, body.clientMessageId)
    identifier = message_id(key, body.conversationId)
    return Message(
        conversation_id=body.conversationId,
        sender_id=body.senderId,
        client_message_id=body.clientMessageId,
        content=body.content,
        content_type=body.contentType,
        recipient_ids=tuple(body.recipientIds),
        message_id=identifier,
        idempotency_key=key,
        accepted_at=now(),
        correlation_id=identifier,
    )
