"""Rescues: the feature of a log that appends records again after a failover has lost them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["Rescuing", "rescuing"]


@runtime_checkable
class Rescuing(Protocol):
    """A transport that appends lost records again, of this process and of others."""

    on_rescued: Callable[[int], None]
    """Called with the number of records that this process has just appended again."""

    async def rescued(self) -> int:
        """Return how many records were appended again in the last day, over all failovers.

        Raises:
            TransportError: the log can't be asked.
        """


def rescuing(transport: Transport) -> Rescuing | None:
    """Return the innermost transport if it has rescues, else ``None``."""
    inner = innermost(transport)
    return inner if isinstance(inner, Rescuing) else None
