"""What the server of a log says of itself, for people who look for a fault."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["ServerFacts", "TellsServerFacts"]


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server, or a cluster."""

    version: str
    """Its product and version, or what is known of it."""
    role: str | None = None
    """Its part among its replicas, in its own words."""
    writable: bool = True
    """Whether it takes appends in that role."""
    clock: float | None = None
    """Its clock, in seconds since 1970."""


@runtime_checkable
class TellsServerFacts(Protocol):
    """A transport that can tell them. A log does without."""

    async def server_facts(self) -> ServerFacts:
        """Return them. May be asked before the transport is connected.

        Raises:
            TransportUnavailable: the server can't be reached, or does not say.
        """
