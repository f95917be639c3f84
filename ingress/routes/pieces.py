"""Pages in JSON that are sent in pieces, so that an unread page does not hold all of its memory.

A page's keys are decided by one read of all its items. Items beyond the first piece are not kept:
they are read again when the client has taken the piece before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from fastapi import Response
from fastapi.responses import StreamingResponse

from ingress.schema.responses import encode
from ingress.schema.structs import ApiStruct
from persistence.errors import Outage
from transport.errors import TransportError

__all__ = ["JSON", "PIECE_BYTES", "page_answer"]

JSON = "application/json"
PIECE_BYTES = 64 * 1024
"""The most bytes of a piece, without its last item."""

_ITEMS = b'"items":[]'
_Key = TypeVar("_Key")
_Read = Callable[[Sequence[_Key]], Awaitable[Iterable[object]]]


def page_answer(
    empty: ApiStruct,
    items: Sequence[tuple[_Key, object | None]],
    *,
    read: _Read[_Key],
    ended_after: Callable[[_Key], ApiStruct],
) -> Response:
    """Return the answer with a page, in pieces if it is large.

    Args:
        empty: The page without its items.
        items: Each with its key; ``None`` for one that the client may not see.
        read: Reads the items of adjacent keys again, those that are still there.
        ended_after: Returns the page, without its items, that ends early after this key. It ends so
            if ``read`` raises ``Outage``, ``TransportError`` or ``TimeoutError``.
    """
    first: list[bytes] = []
    pieces: list[list[_Key]] = [[]]
    size = 0
    for key, item in items:
        encoded = b"" if item is None else encode(item)
        if size >= PIECE_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(key)
        size += len(encoded)
        if encoded and len(pieces) == 1:
            first.append(encoded)
    before, after = encode(empty).split(_ITEMS)
    head = b'%b"items":[%b' % (before, b",".join(first))
    if len(pieces) == 1:
        return Response(b"%b]%b" % (head, after), media_type=JSON)
    sent = _sent(head, pieces, after, comma=bool(first), read=read, ended_after=ended_after)
    return StreamingResponse(sent, media_type=JSON)


async def _sent(
    head: bytes,
    pieces: Sequence[Sequence[_Key]],
    after: bytes,
    *,
    comma: bool,
    read: _Read[_Key],
    ended_after: Callable[[_Key], ApiStruct],
) -> AsyncIterator[bytes]:
    """Yield ``head``, which has the first piece, the items of the others, and ``after``."""
    yield head
    del head
    last = pieces[0][-1]
    for keys in pieces[1:]:
        try:
            items = await read(keys)
        except (Outage, TransportError, TimeoutError):
            after = encode(ended_after(last)).split(_ITEMS)[1]
            break
        if encoded := b",".join(map(encode, items)):
            del items
            yield (b"," if comma else b"") + encoded
            comma = True
        last = keys[-1]
    yield b"]" + after
