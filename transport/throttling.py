"""A log whose server may slow this process down, since a quota is used up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.forwarding import innermost

__all__ = ["Throttling", "throttling"]


@runtime_checkable
class Throttling(Protocol):
    """A transport that waits where its server asks it to, and tells how long."""

    on_throttled: Callable[[float], None]
    """Called with the seconds by which a wait has just become longer."""

    def throttled_lately(self) -> float:
        """Return the seconds of the last wait, if it ended less than a minute ago; else 0."""


def throttling(transport: Transport) -> Throttling | None:
    """Return the transport behind ``transport``'s decorators, if it is such a one."""
    inner = innermost(transport)
    return inner if isinstance(inner, Throttling) else None
