"""Facts about a log's server, for operators who look for a fault."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from transport.certificates import Certificate

__all__ = ["ServerFacts", "TellsServerFacts", "is_far"]


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a server or a cluster. Texts are for people."""

    version: str
    """The product and its version, as far as they are known."""
    role: str | None = None
    """The server's role in replication, as the server names it."""
    writable: bool = True
    """Whether the server takes appends in that role."""
    clock: float | None = None
    """The server's clock, in seconds since the Unix epoch."""
    primaries: Sequence[str] | None = None
    """Warnings of a second primary, each with its remedy; ``None`` if nothing knows of others."""
    replicas: str | None = None
    """The number of connected replicas, and how many an append waits for."""
    lacks_replicas: bool = False
    """Whether fewer replicas are connected than an append waits for."""
    memory: str | None = None
    """The used memory and its limit, if there is a limit."""
    is_full: bool = False
    """Whether no memory is left for appends."""
    unencrypted: str | None = None
    """A host outside private networks to which we connect without TLS."""
    certificates: Sequence[Certificate] = ()
    """Those of the connections that answered: the servers', and our own."""


@runtime_checkable
class TellsServerFacts(Protocol):
    """A transport that can tell facts about its server. ``Transport`` does not require it."""

    async def server_facts(self) -> ServerFacts:
        """Return the facts. May be called before the transport is connected.

        Raises:
            TransportUnavailable: the server can't be reached, or does not say.
        """


def is_far(host: str) -> bool:
    """Return whether ``host`` seems to be outside this machine and private networks.

    A name without dots counts as one of the same network: a container, a service, ``localhost``.
    """
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return "." in host
