"""A cache of parsed request heads: most clients send the same head with every message.

Parsing a head is a tenth of the cost of accepting a message. So the cache keeps each head of a
valid message, byte for byte, with the parser's result; the same bytes always give the same result.
A cached head is used only for a whole request: the head, a body of the length that the head states,
and nothing after it.
"""

from __future__ import annotations

import msgspec

from ingress.web.headers import Headers

__all__ = ["CachedHead", "RequestHeadCache"]

_END = b"\r\n\r\n"
_LONGEST = 4096
# Headers whose value changes with every message. Heads with them never come again, and would drive
# out heads that do.
_CHANGING = (b"x-correlation-id", b"idempotency-key", b"traceparent", b"b3", b"x-b3-traceid")


class CachedHead(msgspec.Struct, frozen=True, gc=False):
    """The parts of a parsed head that the hot path needs."""

    headers: Headers
    length: int
    """The body's length in bytes."""
    keep_alive: bool


class RequestHeadCache:
    """Caches up to ``most`` heads. All connections of a process share it."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._cached: dict[bytes, CachedHead] = {}

    def __len__(self) -> int:
        return len(self._cached)

    def find(self, data: bytes) -> tuple[CachedHead, bytes] | None:
        """Return head and body if ``data`` is one whole request with a cached head."""
        end = data.find(_END) + len(_END)
        head = self._cached.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, data[end:]

    def learn(self, raw: bytes, head: CachedHead) -> None:
        """Cache a parsed head, unless it is unlikely to come again.

        Args:
            raw: All bytes of the head, never a part of them. The rest of a head whose beginning
                came in an earlier read can look like a valid head, and would stand for a request
                that nobody sent.
            head: The parser's result. The request has come as a whole.
        """
        if len(raw) > _LONGEST or not head.length:
            return
        if any(name in head.headers for name in _CHANGING):
            return
        if len(self._cached) >= self._most:
            self._cached.clear()
        self._cached[raw] = head
