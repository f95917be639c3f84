"""A request that is refused before its body has come: the answer reaches its sender."""

from __future__ import annotations

import asyncio

from .conftest import API_KEY, Site

_PIECE = 64 * 1024
_PIECES = 64


async def test_a_body_that_is_refused_is_sent_to_its_end_through_a_proxy(site: Site) -> None:
    """Many clients read after the last byte. A reset before that would have them try again."""
    reader, writer = await asyncio.open_connection(site.front.host, site.front.port)
    head = (
        "POST /api/messages HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {API_KEY}",
        "Content-Type: application/json",
        f"Content-Length: {_PIECE * _PIECES}",
        "",
        "",
    )
    writer.write("\r\n".join(head).encode())
    for _ in range(_PIECES):
        writer.write(b"x" * _PIECE)
        await writer.drain()
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
    writer.close()
