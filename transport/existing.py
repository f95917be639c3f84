"""Check whether the log that the settings name exists, without making it.

To connect a transport makes its log where there is none. That is right for the service. A command
that only looks must not: the server may be another program's.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.errors import ConfigurationError, TransportUnavailable
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Existing", "must_be_shared", "must_exist"]


@runtime_checkable
class Existing(Protocol):
    """A transport that can tell this. One that can't is taken as it is."""

    @property
    def where(self) -> str:
        """The server and the log's place on it, for people."""

    async def exists(self) -> bool:
        """Return whether the log has been made. May be asked before the transport is connected.

        Raises:
            TransportUnavailable: the server can't be reached, or does not say.
        """


def must_be_shared(log: Transport) -> None:
    """Return if other processes can open the log.

    Raises:
        ConfigurationError: it is a log within one process.
    """
    if not log.features.shared:
        raise ConfigurationError(
            f"{log.name} is a log within one process, and ends with it: name one that outlives it"
        )


async def must_exist(name: str, settings: TransportSettings) -> None:
    """Return if the log called ``name`` has been made, or can't be asked now.

    Raises:
        ConfigurationError: its server answers, and has no such log.
    """
    transport = create(name, settings)
    if not isinstance(transport, Existing):
        return
    try:
        found = await transport.exists()
    except TransportUnavailable:
        return  # told by the first call that needs it
    if not found:
        raise ConfigurationError(
            f"{transport.where} holds no log of Crossfade, and none was made: name the server "
            "that the service uses, or start the service first"
        )
