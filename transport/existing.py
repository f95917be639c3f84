"""Checks that the log in the settings exists, without making it.

Connecting a transport makes its log if there is none. That is right for the service, but a command
that only reads must not do it: the server may belong to another program.
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
    """A transport that can tell whether its log exists. Other transports are not checked."""

    @property
    def where(self) -> str:
        """The server and the log's place on it, as text for messages."""

    async def exists(self) -> bool:
        """Return whether the log has been made. May be called before the transport is connected.

        Raises:
            TransportUnavailable: the server can't be reached, or does not say.
        """


def must_be_shared(log: Transport) -> None:
    """Return if other processes can open the log.

    Raises:
        ConfigurationError: the log exists only within one process.
    """
    if not log.features.shared:
        raise ConfigurationError(
            f"{log.name} is a log within one process, and ends with it: name one that outlives it"
        )


async def must_exist(name: str, settings: TransportSettings) -> None:
    """Return if the log called ``name`` has been made, or its server can't be asked now.

    Raises:
        ConfigurationError: the server answers, and has no such log.
    """
    transport = create(name, settings)
    if not isinstance(transport, Existing):
        return
    try:
        found = await transport.exists()
    except TransportUnavailable:
        return  # the first call that needs the log will raise it
    if not found:
        raise ConfigurationError(
            f"{transport.where} holds no log of Crossfade, and none was made: name the server "
            "that the service uses, or start the service first"
        )
