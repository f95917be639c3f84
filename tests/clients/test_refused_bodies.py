"""A request that is refused before its body has come: the answer reaches its sender."""

from __future__ import annotations

import asyncio
import socket

from .conftest import API_KEY, Site

_PIECE = 64 * 1024
_PIECES = 64


async def test_a_body_that_is_refused_is_sent_to_its_end_through_a_proxy(site: Site) -> None:
    """Many clients send all before they read. A reset would have them try again."""
    answer = await asyncio.to_thread(_read_and_send, site.front.host, site.front.port)
    assert answer.startswith(b"HTTP/1.1 413 ")


def _read_and_send(host: str, port: int) -> bytes:
    head = (
        "POST /api/messages HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {API_KEY}",
        "Content-Type: application/json",
        f"Content-Length: {_PIECE * _PIECES}",
        "",
        "",
    )
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall("\r\n".join(head).encode())
        answer = b""
        while data := connection.recv(_PIECE):  # the service has sent its last, and reads on
            answer += data
        for _ in range(_PIECES):
            connection.sendall(b"x" * _PIECE)
        return answer
