"""The pages of a conversation. A large page is read and sent in pieces.

The next piece is read from PostgreSQL when the client has taken the one before. So a client that
does not read holds one piece of its page, and not all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from ingress.messages import visible
from ingress.routes import cursor
from ingress.routes.descriptions import problems
from ingress.routes.messages import persisted_members
from ingress.routes.models import ConversationPage, MessageSummary, Text
from ingress.routes.pieces import JSON, PIECE_BYTES
from ingress.routes.state import Routes, RoutesState
from ingress.schema.problems import DATABASE_UNAVAILABLE, INVALID
from ingress.schema.responses import encode
from ingress.web.access import ReadKey
from ingress.web.auth import ApiKey
from ingress.web.text_convertor import ANY_TEXT
from persistence.errors import Outage
from persistence.reads import messages as queries

__all__ = ["router"]

_MOST = 200
_USUAL = 50
_PAGE_BYTES = 1024 * 1024
"""The most bytes of contents in a page."""

router = APIRouter(prefix="/api", tags=["messages"])


@router.get(
    f"/conversations/{{conversationId:{ANY_TEXT}}}/messages",
    summary="Read a conversation, oldest first",
    description="A page ends early, with `hasMore`, once its contents come to 1 MiB, or if the "
    "database fails while the page is sent. For a key with a sender prefix it leaves out the "
    "messages of other senders.",
    operation_id="listMessages",
    response_model=ConversationPage,
    responses=problems(INVALID, DATABASE_UNAVAILABLE),
)
async def list_messages(
    *,
    routes: Routes,
    key: ReadKey,
    conversation_id: Annotated[Text, Path(alias="conversationId")],
    after: Annotated[
        str | None, Query(max_length=64, description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = _USUAL,
) -> Response:
    if key is not None:
        key.answers_for(conversation=conversation_id)
    page = _Page(routes, key, conversation_id, after, limit)
    first = await page.read()
    if page.complete:
        return Response(first, media_type=JSON)
    return StreamingResponse(page.pieces(first), media_type=JSON)


class _Page:
    """A ``ConversationPage`` in JSON, in pieces.

    Args:
        routes: Has the connections to PostgreSQL.
        key: Only messages that this key may read are in the page.
        conversation_id: The conversation.
        after: The cursor that the client sent.
        limit: The most messages.

    Raises:
        Problem: ``after`` is not a cursor of this conversation (422).
    """

    def __init__(
        self,
        routes: RoutesState,
        key: ApiKey | None,
        conversation_id: str,
        after: str | None,
        limit: int,
    ) -> None:
        self._routes = routes
        self._key = key
        self._conversation_id = conversation_id
        self._subject = f"conversation:{conversation_id}"
        self._position = None if after is None else cursor.decode(after, self._subject)
        self._next = after
        self._limit = limit
        self._bytes = _PAGE_BYTES
        self._before = b'{"items":['  # what comes before the next item
        self.complete = False
        """Whether the last piece was read."""

    async def read(self) -> bytes:
        """Return the next piece.

        Raises:
            Outage: PostgreSQL can't answer.
            TimeoutError: It did not answer in time.
        """
        async with asyncio.timeout(self._routes.timeout_seconds):
            rows, more = await queries.conversation(
                self._routes.reads,
                self._conversation_id,
                self._position,
                self._limit,
                most_bytes=min(self._bytes, PIECE_BYTES),
            )
        parts: list[bytes] = []
        for row in rows:
            if visible(row, self._key):
                parts += self._before, encode(MessageSummary(**persisted_members(row)))
                self._before = b","
            self._bytes -= len(row.message.content.encode())
        if rows:
            self._position = rows[-1].seq
            self._next = cursor.encode(rows[-1].seq, self._subject)
            self._limit -= len(rows)
        if not more or self._limit <= 0 or self._bytes <= 0:
            parts.append(self._end(more=more))
        return b"".join(parts)

    async def pieces(self, piece: bytes) -> AsyncIterator[bytes]:
        """Yield ``piece`` and all that follow. If PostgreSQL fails, the page ends early."""
        while True:
            yield piece
            if self.complete:
                return
            try:
                piece = await self.read()
            except (Outage, TimeoutError):
                piece = self._end(more=True)

    def _end(self, *, more: bool) -> bytes:
        self.complete = True
        opened = b"" if self._before == b"," else self._before
        return b'%b],"next":%b,"hasMore":%b}' % (opened, encode(self._next), encode(more))
