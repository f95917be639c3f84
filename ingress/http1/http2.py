"""HTTP/2 by prior knowledge, refused in its own words: ``HTTP_1_1_REQUIRED`` (RFC 9113).

An answer in HTTP/1.1 is only a broken frame to such a client, which then reports a protocol error.
"""

from __future__ import annotations

from ingress.schema.problems import VERSION, Problem

__all__ = ["PREFACE", "REFUSAL", "Http2RefusedError"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
"""The part of the client's preface that reads like a head (section 3.4)."""

_SETTINGS, _GOAWAY = 4, 7
_HTTP_1_1_REQUIRED = 0xD


class Http2RefusedError(Problem):
    """Raised for a connection that begins as HTTP/2; ``REFUSAL`` is the answer."""

    def __init__(self) -> None:
        super().__init__(VERSION, "This is HTTP/2; send HTTP/1.1.")


def _frame(kind: int, payload: bytes) -> bytes:
    """Return a frame of the whole connection, without flags (section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


# A server's preface is a SETTINGS frame, empty where it wants nothing else than the defaults. The
# last stream that was processed is 0: none, so the client may send its requests again elsewhere.
REFUSAL = _frame(_SETTINGS, b"") + _frame(
    _GOAWAY, bytes(4) + _HTTP_1_1_REQUIRED.to_bytes(4, "big") + b"Send HTTP/1.1."
)
