"""A log of several servers: one that hangs must hold up no appends to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["OnSeveralServers", "ServerOf", "on_several_servers"]

ServerOf = Callable[[int], str]
"""Names the server of a partition."""


@runtime_checkable
class OnSeveralServers(Protocol):
    """A transport whose partitions may be on several servers.

    What is appended in one call is answered together, so a caller that appends for many makes a
    call for each server.
    """

    @property
    def server_of(self) -> ServerOf | None:
        """The name of a partition's server now; ``None`` while all are on one."""


def on_several_servers(transport: Transport) -> OnSeveralServers | None:
    """Return the transport behind ``transport``'s decorators, if it is such a one."""
    inner = innermost(transport)
    return inner if isinstance(inner, OnSeveralServers) else None
