"""The request body of the deployment guide as an ordinary pydantic model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MessageBody"]

Id = Annotated[str, Field(min_length=1, max_length=256)]


class MessageBody(BaseModel):
    """The same fields and limits that the service checks."""

    model_config = ConfigDict(extra="forbid")

    conversationId: Id  # noqa: N815 - the guide's own spelling, with no alias to slow it
    senderId: Id  # noqa: N815
    content: Annotated[str, Field(min_length=1)]
    contentType: Id  # noqa: N815
    clientMessageId: Id  # noqa: N815
    recipientIds: list[Id] = []  # noqa: N815
