"""``Upgrade`` and its like are ignored, and what follows the head is its body and no request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hostile.http.conftest import GET, body, exchange, ingress, post

JAVA = (
    "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "Upgrade: h2c",
)
WISHES = {
    "java": JAVA,
    "h2c": ("Connection: Upgrade", "Upgrade: h2c"),
    "websocket": (
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "not_in_connection": ("Upgrade: h2c",),
    "nothing_named": ("Connection: Upgrade",),
    "anything": ("Connection: upgrade", "Upgrade: TLS/1.0, IRC/6.9"),
}
wishes = pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)


@wishes
async def test_a_post_that_asks_for_another_protocol_is_served(
    port: int, wish: tuple[str, ...], split: Any
) -> None:
    for pieces in split(post(*wish)):
        found, closed = await exchange(port, pieces)
        assert [(answer.status // 100, closed) for answer in found] == [(2, False)]
        assert found[0].json["messageId"]


@wishes
@pytest.mark.parametrize("path", ["/api/messages", "/api/messages:batch", "/healthz", "/none"])
async def test_a_request_in_the_body_of_one_is_no_request(
    port: int, wish: tuple[str, ...], split: Any, path: str
) -> None:
    hidden = GET + GET
    for pieces in split(post(*wish, content=hidden, path=path)):
        found, closed = await exchange(port, pieces)
        assert len(found) == 1
        assert found[0].status in {400, 404, 405, 415}
        assert not closed


@wishes
async def test_a_get_that_asks_for_another_protocol_is_answered(
    port: int, wish: tuple[str, ...], split: Any
) -> None:
    get = GET[:-2] + "\r\n".join(wish).encode() + b"\r\n\r\n"
    for pieces in split(get + get):
        found, closed = await exchange(port, pieces)
        assert ([answer.status for answer in found], closed) == ([200, 200], False)


@wishes
async def test_requests_sent_at_once_are_each_answered_in_order(
    port: int, wish: tuple[str, ...], split: Any
) -> None:
    at_once = post(*wish) + GET + post(*wish, content=body(2)) + post(content=body(2))
    for pieces in split(at_once):
        found, closed = await exchange(port, pieces)
        assert [answer.status // 100 for answer in found] == [2] * 4
        assert not closed
        ids = [answer.json["messageId"] for answer in found if b"messageId" in answer.body]
        assert ids[1] == ids[2] != ids[0]


async def test_a_chunked_body_with_a_wish_is_read(port: int, split: Any) -> None:
    content = body(7)
    head = (
        "POST /api/messages HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        *JAVA,
    )
    data = "\r\n".join(head).encode() + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    for pieces in split(data):
        found, closed = await exchange(port, pieces)
        assert [answer.status // 100 for answer in found] == [2]
        assert not closed


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 501),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nContent-Length: 3\r\n\r\nabc", 501),
    ],
    ids=["connect", "connect_with_body"],
)
async def test_what_is_another_protocol_is_answered_and_closed(
    port: int, split: Any, data: bytes, status: int
) -> None:
    for pieces in split(data + GET):
        found, closed = await exchange(port, pieces)
        assert ([answer.status for answer in found], closed) == ([status], True)
        assert found[0].headers["connection"] == "close"
        assert found[0].headers["content-type"] == "application/problem+json"


async def test_http_2_is_refused_in_its_own_frames(port: int, split: Any) -> None:
    """An HTTP/2 client reads frames: SETTINGS, as it must come first, and why there is no more."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    for pieces in split(preface):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)  # to its end: it is closed
        writer.close()
        settings, goaway = answer[:9], answer[9:]
        assert settings == bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        assert goaway[:9] == bytes([0, 0, len(goaway) - 9, 7, 0, 0, 0, 0, 0])
        last_stream, error = goaway[9:13], goaway[13:17]
        assert (last_stream, error) == (bytes(4), bytes([0, 0, 0, 0xD]))  # HTTP_1_1_REQUIRED


async def test_a_head_that_came_in_pieces_is_not_remembered_in_part() -> None:
    """The rest of such a head is a sound head itself, and not what it was the rest of."""
    content = body()
    rest = b"GET /healthz HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(content)
    start = b"POST /api/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX: "
    async with ingress("fast") as port:
        found, _ = await exchange(port, [start, rest + content])
        assert [answer.status for answer in found] == [202]
        found, closed = await exchange(port, [rest + body(2)])
        assert ([answer.status for answer in found], closed) == ([400], True)  # it lacks Host
