"""Throttling: a log whose server may slow this process down, because a quota is used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["Throttling", "throttled_lately", "throttling"]


@runtime_checkable
class Throttling(Protocol):
    """A transport that waits when its server asks for it, and tells how long."""

    on_throttled: Callable[[float], None]
    """Called with the seconds by which the server has just extended a wait."""

    def throttled_lately(self) -> float:
        """Return the seconds of the last wait, if it ended less than a minute ago; else 0."""


def throttling(transport: Transport) -> Throttling | None:
    """Return the innermost transport if it can be throttled, else ``None``."""
    inner = innermost(transport)
    return inner if isinstance(inner, Throttling) else None


def throttled_lately(logs: Sequence[Transport]) -> dict[str, float]:
    """Return the seconds of the last wait for each log that slowed us down in the last minute."""
    waits = {
        log.name: inner.throttled_lately() for log in logs if (inner := throttling(log)) is not None
    }
    return {name: seconds for name, seconds in waits.items() if seconds}
