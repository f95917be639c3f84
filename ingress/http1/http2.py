"""The refusal of HTTP/2 by prior knowledge: a GOAWAY frame ``HTTP_1_1_REQUIRED`` (RFC 9113).

To such a client an answer in HTTP/1.1 is a broken frame, and it reports a protocol error.
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
    """Return a frame of stream 0 (the whole connection), without flags (section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


# A server's preface is a SETTINGS frame; an empty one keeps the defaults. The last processed stream
# is 0, which means none: the client may send its requests again elsewhere.
REFUSAL = _frame(_SETTINGS, b"") + _frame(
    _GOAWAY, bytes(4) + _HTTP_1_1_REQUIRED.to_bytes(4, "big") + b"Send HTTP/1.1."
)
