"""``GET /api/messages/{id}/content``: the content alone, of any size and type, or a range of it.

The content comes from the row if the row has it, else from the payload store. The SHA-256 of a
whole content is checked while it is sent: the last bytes are held back until the digest is right.
So a client that got all bytes got the right ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated, Any, NamedTuple

import structlog
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from ingress.messages import visible
from ingress.routes.byte_ranges import ByteRange, asked_range
from ingress.routes.descriptions import problems
from ingress.routes.messages import MessageId, canonical, gone, not_found, payload_apart
from ingress.routes.state import Routes, RoutesState
from ingress.schema.problems import (
    DATABASE_UNAVAILABLE,
    GONE,
    INVALID,
    LOG_UNAVAILABLE,
    NOT_FOUND,
    PAYLOAD_DAMAGED,
    PAYLOADS_UNAVAILABLE,
    RANGE,
    Problem,
)
from ingress.schema.retry_after import AWAY
from ingress.web.access import ReadKey
from ingress.web.auth import ApiKey
from ingress.web.methods import is_head
from persistence.payloads.errors import PayloadCorrupt, PayloadMissing
from persistence.payloads.store import PayloadStore
from persistence.reads.tombstones import Buried, buried

__all__ = ["router"]

_log = structlog.get_logger(__name__)

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105 - RFC 6838's, for a type and a subtype
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})[ \t]*(;[ -~]*)?")
# Media types that browsers run as a script or apply as a style, whatever other headers say. A page
# of this service may load both from its own host.
_ACTIVE = re.compile(r"[a-z]+/(?:x-)?(?:java|ecma|live|j)script[0-9.]*|text/css|application/wasm")
_URL_SECONDS = 300  # of a signed URL: the client follows the redirect at once
_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"
# The sender chose type and bytes, so a browser must neither guess the type nor show it as a page
# of this service.
_HARMLESS = {
    "Content-Disposition": "attachment",
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "bytes",
    "Cache-Control": "private",
}
_STRING = {"schema": {"type": "string"}}
_ANY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The whole content, as its sender named it.",
        "headers": {
            "ETag": {"description": "Its SHA-256, in quotes.", **_STRING},
            "Accept-Ranges": _STRING,
        },
        "content": _ANY,
    },
    206: {
        "description": "The bytes that `Range` asks for.",
        "headers": {"ETag": _STRING, "Content-Range": _STRING},
        "content": _ANY,
    },
    304: {"description": "`If-None-Match` has its ETag.", "headers": {"ETag": _STRING}},
    307: {
        "description": "With `PAYLOAD_REDIRECT`: its URL in the payload store, valid for some "
        "minutes.",
        "headers": {"Location": _STRING},
    },
}


class _ServedContent(NamedTuple):
    """The content of a message. If ``text`` is ``None``, the payload store has it under ``key``."""

    media_type: str
    size: int
    digest: str
    text: bytes | None
    key: str

    @property
    def etag(self) -> str:
        return f'"{self.digest}"'


router = APIRouter(prefix="/api/messages/{messageId}/content", tags=["messages"])


@router.get(
    "",
    summary="Read a message's content alone",
    description="Of any size and type, with `Range` for a part of it. `Content-Type` is the "
    "message's `contentType` where that is a media type.",
    operation_id="getContent",
    response_class=Response,
    responses={
        **_CONTENT,
        **problems(
            INVALID,
            NOT_FOUND,
            GONE,
            RANGE,
            PAYLOAD_DAMAGED,
            DATABASE_UNAVAILABLE,
            LOG_UNAVAILABLE,
            PAYLOADS_UNAVAILABLE,
        ),
    },
)
async def get_content(
    *,
    message_id: MessageId,
    request: Request,
    routes: Routes,
    key: ReadKey,
    range_: Annotated[
        str | None, Header(alias="Range", description="One range, such as `bytes=0-1023`.")
    ] = None,
    if_range: Annotated[
        str | None, Header(description="`Range` applies only if the content's ETag is this one.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="Answer 304 if the ETag is among these.")
    ] = None,
) -> Response:
    identifier = canonical(message_id)
    content = await _content(identifier, routes, key)
    headers = {**_HARMLESS, "ETag": content.etag, "Content-Type": content.media_type}
    if if_none_match is not None and not _etags(if_none_match).isdisjoint({content.etag, "*"}):
        return Response(status_code=304, headers={"ETag": content.etag})
    wanted = asked_range(range_, content.size)
    if if_range is not None and if_range.strip() != content.etag:
        wanted = None
    if wanted is not None and wanted.start >= wanted.end:
        detail = f"The content has {content.size} bytes."
        raise Problem(RANGE, detail, headers={"Content-Range": f"bytes */{content.size}"})
    status, part = 200, ByteRange(0, content.size)
    if wanted is not None:
        status, part = 206, wanted
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{content.size}"
    headers["Content-Length"] = str(part.end - part.start)
    if is_head(request.scope):
        return Response(status_code=status, headers=headers)
    if content.text is not None:
        return Response(content.text[part.start : part.end], status, headers)
    if url := await _signed(content, routes.payloads):
        return RedirectResponse(url, 307, {"Cache-Control": "no-store"})
    try:
        chunks = await _chunks(content, part, routes)
    except PayloadMissing:
        # An erasure deletes the content before the row that names it.
        async with asyncio.timeout(routes.timeout_seconds):
            tombstone = await buried(routes.pool, identifier)
        if tombstone is None or tombstone.state != "erased":
            raise
        raise gone(identifier, tombstone) from None
    return StreamingResponse(chunks, status, headers)


async def _content(identifier: str, routes: RoutesState, key: ApiKey | None) -> _ServedContent:
    found = await routes.messages.find(identifier, content=True)
    if isinstance(found, Buried) and visible(found, key):
        raise gone(identifier, found)
    message = found.message if found is not None and visible(found, key) else None
    if message is None:  # not found, not visible for this key, or an unreadable dead letter
        raise not_found(identifier)
    if payload := payload_apart(message):
        media_type = _media_type(message.content_type, _BYTES)
        return _ServedContent(media_type, payload.bytes, payload.sha256, None, payload.key)
    text = message.content.encode()
    media_type = _media_type(message.content_type, _TEXT)
    return _ServedContent(media_type, len(text), sha256(text).hexdigest(), text, "")


def _media_type(declared: str, otherwise: str) -> str:
    """Return the sender's media type, or ``otherwise`` if it is no media type.

    A type that a browser would run or apply is replaced by ``application/octet-stream``.
    """
    match = _MEDIA_TYPE.fullmatch(declared)
    if match is None:
        return _TEXT if declared == "text" else otherwise
    if _ACTIVE.fullmatch(match[1].lower()):
        return _BYTES
    if match[2] is None and declared.lower().startswith("text/"):
        return f"{declared}; charset=utf-8"
    return declared


def _etags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


async def _signed(content: _ServedContent, store: PayloadStore | None) -> str | None:
    if store is None or not store.settings.payload_redirect:
        return None
    return await store.sign_get(content.key, _URL_SECONDS)


async def _chunks(
    content: _ServedContent, part: ByteRange, routes: RoutesState
) -> AsyncIterator[bytes]:
    """Begin to read a part of the content from the payload store; return its chunks.

    Raises:
        Problem: This process has no payload store (503).
        PayloadError: The store can't return the content, or has another content.
    """
    if routes.payloads is None:
        detail = "The content is in a payload store, and this process has no PAYLOAD_STORE."
        raise Problem(PAYLOADS_UNAVAILABLE, detail, headers=AWAY)
    opened = await routes.payloads.open(content.key, start=part.start, end=part.end)
    if opened.size != content.size:
        raise PayloadCorrupt(f"{content.key} has {opened.size} bytes, not {content.size}")
    if part.end - part.start < content.size:
        return opened.chunks
    verified = _verified(opened.chunks, content)
    # Read the first chunk now: a fault of content in one chunk is known before the status is sent.
    return _resumed(await anext(verified), verified)


async def _resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _verified(chunks: AsyncIterator[bytes], content: _ServedContent) -> AsyncIterator[bytes]:
    """Yield all chunks, and the last one only if the digest of all is right."""
    digest, held = sha256(), b""
    async for chunk in chunks:
        if held:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != content.digest:
        _log.error("The payload store has other content than was sent", payload=content.key)
        raise PayloadCorrupt(f"{content.key} has another SHA-256")
    yield held
