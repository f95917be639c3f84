"""Request heads that came before: most clients send the same one with every message.

Parsing a head costs a tenth of all that accepting a message costs this process. So a head that the
parser made a sound message of is remembered, byte for byte, with what it made of it; of the same
bytes it would make the same. A request is taken by it only where it is whole: the head, the body of
the length that the head states, and nothing after it.
"""

from __future__ import annotations

import msgspec

from ingress.web.headers import Headers

__all__ = ["CachedHead", "RequestHeadCache"]

_END = b"\r\n\r\n"
_LONGEST = 4096
# Another value with every message: such heads never come again, and would drive out those that do.
_CHANGING = (b"x-correlation-id", b"idempotency-key", b"traceparent", b"b3", b"x-b3-traceid")


class CachedHead(msgspec.Struct, frozen=True, gc=False):
    """A parsed head."""

    headers: Headers
    length: int
    """The body's length in bytes."""
    keep_alive: bool


class RequestHeadCache:
    """Remembers up to ``most`` heads; of one process, for all its connections."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._cached: dict[bytes, CachedHead] = {}

    def __len__(self) -> int:
        return len(self._cached)

    def find(self, data: bytes) -> tuple[CachedHead, bytes] | None:
        """Return head and body if ``data`` is one whole request whose head is remembered."""
        end = data.find(_END) + len(_END)
        head = self._cached.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, data[end:]

    def learn(self, raw: bytes, head: CachedHead) -> None:
        """Remember what ``raw`` was parsed to, unless it will hardly come again.

        Args:
            raw: All bytes of the head, and never a part of them: the rest of a head whose beginning
                came before is itself a sound head, and would stand for a request never sent.
            head: What it says, of a request that has come as a whole.
        """
        if len(raw) > _LONGEST or not head.length:
            return
        if any(name in head.headers for name in _CHANGING):
            return
        if len(self._cached) >= self._most:
            self._cached.clear()
        self._cached[raw] = head
