"""The routes that list, read and discard dead letters."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Response

from ingress.routes import cursor
from ingress.routes.dead_letter_models import (
    LARGEST,
    DeadLetterFilter,
    DeadLetterPage,
    DeadLetterQuery,
    Discarded,
    DiscardRequest,
    FullDeadLetter,
    RecordHeader,
)
from ingress.routes.descriptions import json_body, problems
from ingress.routes.pieces import page_answer
from ingress.routes.state import Caller, Routes
from ingress.schema import problems as p
from ingress.schema.problems import FORBIDDEN, NOT_FOUND, Problem
from ingress.web.access import ADMIN, NEEDS_READ, READ_ALL, OperatorKey, shows_messages
from ingress.web.text_convertor import DIGITS
from persistence.dead_letters.dead_letters import DeadLetterBytes, StoredDeadLetter
from persistence.dead_letters.selection import Selection, described

__all__ = ["router", "selection_of"]

_LISTING = "dead letters"
_WRITE = (p.MALFORMED, p.INVALID, p.TOO_LARGE, p.MEDIA, p.DATABASE_UNAVAILABLE)


def selection_of(ids: list[int] | None, chosen: DeadLetterFilter | None) -> Selection:
    """Return the selection of a request: by ids, or else by conditions."""
    if ids is not None:
        return Selection(ids=tuple(ids))
    conditions = set(DeadLetterFilter.model_fields)  # a query has further fields
    return Selection(**(chosen or DeadLetterFilter()).model_dump(include=conditions))


router = APIRouter(prefix="/api/dead-letters", tags=["dead letters"])


@router.get(
    "",
    summary="List dead letters, newest first",
    description="A page at a time, without their bytes. Pending ones unless `state` says "
    "otherwise. A key without the scope `read` gets no ids of messages, no conversations and no "
    "errors, and can't search by `text`. A page ends early, with `hasMore`, if the database fails "
    "while it is sent.",
    operation_id="listDeadLetters",
    response_model=DeadLetterPage,
    responses=problems(p.INVALID, p.DATABASE_UNAVAILABLE),
)
async def list_dead_letters(
    query: Annotated[DeadLetterQuery, Query()], routes: Routes, key: OperatorKey
) -> Response:
    shown = shows_messages(key)
    if query.text is not None and not shown:
        raise Problem(FORBIDDEN, f"`text`: errors may quote messages. {NEEDS_READ}")
    before = cursor.decode(query.after, _LISTING) if query.after is not None else None
    state = None if query.state == "any" else query.state
    page = await routes.letters.page(
        selection_of(None, query), text=query.text, state=state, before=before, limit=query.limit
    )

    def seen(letter: StoredDeadLetter) -> StoredDeadLetter:
        return letter if shown else _nameless(letter)

    async def read(ids: Sequence[int]) -> list[StoredDeadLetter]:
        async with asyncio.timeout(routes.timeout_seconds):
            found = await routes.letters.list(Selection(ids=tuple(ids)), state=None, limit=len(ids))
        return [seen(letter) for letter in found]

    return page_answer(
        _without_items(page.next),
        [(letter.id, seen(letter)) for letter in page.items],
        read=read,
        ended_after=_without_items,
    )


def _without_items(last: int | None) -> DeadLetterPage:
    """Return a page without its items; the next one begins after the letter ``last``, if any."""
    following = None if last is None else cursor.encode(last, _LISTING)
    return DeadLetterPage(items=[], next=following, has_more=last is not None)


@router.get(
    f"/{{deadLetterId:{DIGITS}}}",
    summary="Read a dead letter, its record and why it is one",
    description="The record byte for byte, with its headers and the error that ended it.",
    operation_id="getDeadLetter",
    dependencies=[Depends(READ_ALL.key)],
    responses=problems(p.INVALID, NOT_FOUND, p.DATABASE_UNAVAILABLE),
)
async def get_dead_letter(
    dead_letter_id: Annotated[int, Path(alias="deadLetterId", ge=1, le=LARGEST)],
    routes: Routes,
) -> FullDeadLetter:
    found = await routes.letters.get(dead_letter_id)
    if found is None:
        raise Problem(NOT_FOUND, f"There is no dead letter {dead_letter_id}.")
    return _full(*found)


@router.post(
    "/discard",
    summary="Give dead letters up for good",
    description="They stay on record, with who gave them up and why, and are no longer "
    "pending. With `dryRun` they are only counted.",
    operation_id="discardDeadLetters",
    dependencies=[Depends(ADMIN.key), json_body()],
    responses=problems(*_WRITE),
)
async def discard_dead_letters(body: DiscardRequest, routes: Routes, who: Caller) -> Discarded:
    selection = selection_of(body.ids, body.filter)
    up_to = await routes.letters.newest() if body.up_to is None else body.up_to
    if body.dry_run:
        by_reason = await routes.letters.count(selection, up_to=up_to)
        return Discarded(discarded=sum(by_reason.values()), up_to=up_to)
    async with routes.actions.recorded(
        "discard", who=who, target=described(selection), why=body.why
    ) as entry:
        count = await routes.letters.discard(
            selection, by=who, why=body.why, up_to=up_to, most=body.most
        )
        entry.result = f"{count} discarded"
    return Discarded(discarded=count, up_to=up_to)


def _nameless(letter: StoredDeadLetter) -> StoredDeadLetter:
    """Return a dead letter without what names or quotes its message."""
    return msgspec.structs.replace(
        letter, message_id=None, conversation_id=None, error=NEEDS_READ, cause=None
    )


def _full(letter: StoredDeadLetter, record: DeadLetterBytes) -> FullDeadLetter:
    try:
        body: str | None = record.body.decode()
    except UnicodeDecodeError:
        body = None
    return FullDeadLetter(
        **msgspec.structs.asdict(letter),
        key=_text(record.key),
        body=body,
        body_base64=b64encode(record.body).decode(),
        headers=[
            RecordHeader(name=_text(name), value=_text(value)) for name, value in record.headers
        ],
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
