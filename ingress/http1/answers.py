"""Whole answers as bytes, for what is answered without ASGI."""

from __future__ import annotations

from http import HTTPStatus

from ingress.web.asgi import Answer

__all__ = ["STATUS_LINES", "rendered"]

STATUS_LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def rendered(answer: Answer) -> bytes:
    """Return an answer after which the connection is closed."""
    status, headers, body = answer
    lines = [b"%b: %b\r\n" % pair for pair in headers if pair[0] != b"connection"]
    return b"%b%bconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        STATUS_LINES[status],
        b"".join(lines),
        len(body),
        body,
    )
