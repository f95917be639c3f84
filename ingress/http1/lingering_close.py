"""What a client still sends after its last answer is read and discarded for a while.

A connection that is closed with bytes unread is reset, and the client may never see its answer.
Many clients send their whole body before they read that it is refused. If the connection is reset
meanwhile, they report a lost connection, and send the same body again. So the rest of a body may
take as long as a whole one, if it comes at the slowest rate of a form or faster.
"""

from __future__ import annotations

__all__ = ["LingeringClose"]

_SECONDS = 5.0
_BYTES = 32 * 1024 * 1024
_BODY_BYTES = 128 * 1024 * 1024  # the default of the largest form is 100 MiB
_SLOWEST = 32 * 1024  # bytes a second


class LingeringClose:
    """How much a client has sent since our writing side was closed, and how long it may go on.

    Args:
        now: The event loop's time.
        body_seconds: How long the rest of a body may take; 0 if no body is discarded.
    """

    def __init__(self, now: float, *, body_seconds: float) -> None:
        self.since = now
        """When it began, or was last seen to go on."""
        self._is_body = body_seconds > 0
        self._until = now + body_seconds
        self._bytes = 0
        self._bytes_before = 0  # at the time ``since``

    def discard(self, count: int) -> bool:
        """Count bytes; return whether the client may send more."""
        self._bytes += count
        return self._bytes <= (_BODY_BYTES if self._is_body else _BYTES)

    def begin_again(self, now: float) -> None:
        """Give the client its time anew: it has not read its answer yet."""
        self.since, self._bytes_before = now, self._bytes

    def is_over(self, now: float) -> bool:
        """Return whether the client has had its time."""
        waited = now - self.since
        if waited <= _SECONDS:
            return False
        is_slow = self._bytes - self._bytes_before < _SLOWEST * waited
        if is_slow or not self._is_body or now > self._until:
            return True
        self.since, self._bytes_before = now, self._bytes
        return False
