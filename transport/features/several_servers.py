"""Logs on several servers: which server has a partition, so that one that hangs delays no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["OnSeveralServers", "ServerOf", "on_several_servers"]

ServerOf = Callable[[int], str]
"""Returns the name of a partition's server."""


@runtime_checkable
class OnSeveralServers(Protocol):
    """A transport whose partitions may be on several servers.

    All envelopes of one call are answered together. So a caller with many envelopes should make one
    call for each server.
    """

    @property
    def server_of(self) -> ServerOf | None:
        """A function that names a partition's server now; ``None`` if there is one server."""


def on_several_servers(transport: Transport) -> OnSeveralServers | None:
    """Return the innermost transport if it may be on several servers, else ``None``."""
    inner = innermost(transport)
    return inner if isinstance(inner, OnSeveralServers) else None
