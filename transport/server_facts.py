"""Facts of a log's server, as it tells them, for people who look for a fault."""

from __future__ import annotations

import ipaddress
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["ServerFacts", "TellsServerFacts", "is_far"]


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
    replicas: str | None = None
    """How many replicas follow it, beside how many an append waits for, in words."""
    lacks_replicas: bool = False
    """Whether fewer replicas follow it than an append waits for."""
    memory: str | None = None
    """How much of its memory it uses, in words, where it has a limit."""
    is_full: bool = False
    """Whether it has no memory left for appends."""
    unencrypted: str | None = None
    """A host beyond our own networks that is spoken to without TLS."""


@runtime_checkable
class TellsServerFacts(Protocol):
    """A transport that can tell them. A log does without."""

    async def server_facts(self) -> ServerFacts:
        """Return them. May be asked before the transport is connected.

        Raises:
            TransportUnavailable: the server can't be reached, or does not say.
        """


def is_far(host: str) -> bool:
    """Return whether ``host`` is neither this machine nor in a private network, as far as it shows.

    A name without dots is one of the same network: a container's, a service's, ``localhost``.
    """
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return "." in host
