"""Request heads that came before: most clients send the same one with every message.

Parsing a head costs a tenth of all that accepting a message costs this process. So a head that the
parser made a sound message of is remembered, byte for byte, with what it made of it; of the same
bytes it would make the same. A request is taken by it only where it is whole: the head, the body of
the length that the head states, and nothing after it.
"""

from __future__ import annotations

import msgspec

from ingress.web.headers import Headers

__all__ = ["Head", "RequestHeadCache"]

_END = b"\r\n\r\n"
_LONGEST = 4096
# Another value with every message: such heads never come again, and would drive out those that do.
_CHANGING = (b"x-correlation-id", b"idempotency-key", b"traceparent", b"b3", b"x-b3-traceid")


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the parser made of a head."""

    headers: Headers
    length: int
    """Of the body, in bytes."""
    keep_alive: bool


class RequestHeadCache:
    """Remembers up to ``most`` heads; of one process, for all its connections."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return head and body if ``data`` is one whole request whose head is remembered."""
        end = data.find(_END) + len(_END)
        head = self._known.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, data[end:]

    def learn(self, head: bytes, body: bytes, headers: Headers, *, keep_alive: bool) -> None:
        """Remember a head, given as all of its bytes by the parser of which ``headers`` are.

        Never a part of one: the rest of a head whose beginning came before is itself a sound head,
        and would stand for a request that nobody sent.
        """
        if not 0 < len(head) <= _LONGEST or not body:
            return
        if headers.get(b"content-length") != b"%d" % len(body):
            return
        if any(name in headers for name in _CHANGING):
            return
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[head] = Head(headers, len(body), keep_alive)
