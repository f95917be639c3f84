"""Answers as bytes: status lines, header lines, and whole answers that close the connection."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from ingress.web.asgi import Answer

__all__ = ["STATUS_LINES", "header_lines", "rendered"]

STATUS_LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as lines, without ``Connection``: each connection decides that itself."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers if pair[0] != b"connection"])


def rendered(answer: Answer) -> bytes:
    """Return a whole answer as bytes, with ``Connection: close``."""
    status, headers, body = answer
    return b"%b%bconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        STATUS_LINES[status],
        header_lines(headers),
        len(body),
        body,
    )
