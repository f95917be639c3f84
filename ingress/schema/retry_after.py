"""The headers that say when a refused client may try again (RFC 9110, section 10.2.3)."""

from __future__ import annotations

__all__ = ["AWAY", "BUSY"]

BUSY = {"Retry-After": "1"}
"""Too much is asked at once. A second later there may be room."""
AWAY = {"Retry-After": "2"}
"""A server behind this process is away, or slow. It takes a little longer to come back."""
