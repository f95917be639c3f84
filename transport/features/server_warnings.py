"""Warnings of a log's servers: the feature of a log that may be on two servers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["WarnsOfServers", "server_warnings"]


@runtime_checkable
class WarnsOfServers(Protocol):
    """A transport that watches which of its servers takes appends."""

    def server_warnings(self) -> Sequence[str] | None:
        """Return what endangers records now, each with its remedy; ``None`` if nothing watches."""


def server_warnings(transport: Transport) -> Sequence[str] | None:
    """Return the warnings of the innermost transport; ``None`` if it watches no servers."""
    inner = innermost(transport)
    return inner.server_warnings() if isinstance(inner, WarnsOfServers) else None
