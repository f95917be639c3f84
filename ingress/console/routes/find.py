"""The routes that find messages by an id or an offset, and that list the latest messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from ingress.console.routes.state import Console
from ingress.console.search.search import Listing
from ingress.console.views import FoundMessages, FoundPage
from ingress.routes import cursor
from ingress.routes.descriptions import problems
from ingress.routes.models import Text
from ingress.schema.problems import DATABASE_UNAVAILABLE, FORBIDDEN, INVALID
from ingress.web.access import ReadKey
from persistence.reads.recent import RecentPlace

__all__ = ["router"]

_YEAR = 366 * 24 * 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/search",
    summary="Find messages by any of their ids, by conversation, or where they stand in a log",
    description="Persisted messages are found by index. Messages that are not persisted yet are "
    "searched for among the waiting records and the latest pending dead letters.",
    operation_id="searchMessages",
    responses=problems(INVALID),
)
async def search_messages(
    q: Annotated[
        Text,
        Query(
            description="A message id or its first six characters and more, a client message "
            "id, a correlation id, a conversation, a dead letter's number, or a place in a log "
            "such as `redis 7:1795658271335-0` or `kafka 3/120`.",
        ),
    ],
    console: Console,
    key: ReadKey,
) -> FoundMessages:
    return await console.search.find(q, key)


@router.get(
    "/messages",
    summary="List messages, newest first: of a sender, of a conversation, of the last minutes",
    description="The first page begins with messages that are not persisted yet: waiting "
    "records, and the latest pending dead letters. Without a conversation, a page is read back "
    "in time, for two seconds at most; a page that ends early says how far it came.",
    operation_id="listLatestMessages",
    responses=problems(INVALID, FORBIDDEN, DATABASE_UNAVAILABLE),
)
async def list_latest(
    *,
    console: Console,
    key: ReadKey,
    conversation: Text | None = None,
    sender: Text | None = None,
    minutes: Annotated[
        int | None, Query(ge=1, le=_YEAR, description="Only messages of the last so many minutes.")
    ] = None,
    after: Annotated[
        str | None, Query(max_length=64, description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> FoundPage:
    if key is not None:
        key.answers_for(sender=sender or "", conversation=conversation or "")
    since = datetime.now(UTC) - timedelta(minutes=minutes) if minutes is not None else None
    listing = Listing(conversation=conversation, sender=sender, since=since)
    subject = f"latest:{conversation}:{sender}:{minutes}"
    before = _place(after, subject) if after is not None else None
    page, following = await console.search.latest(listing, before=before, limit=limit, key=key)
    following_text = _text(following, subject) if following else None
    return msgspec.structs.replace(page, next=following_text)


def _text(place: RecentPlace, subject: str) -> str:
    """Return the cursor of a place: its time in microseconds, then its row's number."""
    moment = max(place.at, _EPOCH) - _EPOCH
    return f"{cursor.encode(moment // _MICROSECOND, subject)}.{cursor.encode(place.seq, subject)}"


def _place(text: str, subject: str) -> RecentPlace:
    """Return the place in a cursor.

    Raises:
        Problem: The cursor was not made by ``_text``, or for another listing (422).
    """
    first, _, second = text.partition(".")
    number, sequence = cursor.decode(first, subject), cursor.decode(second, subject)
    try:
        return RecentPlace(_EPOCH + number * _MICROSECOND, sequence)
    except OverflowError:
        return RecentPlace(_EPOCH, sequence)
