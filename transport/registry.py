"""Transports by name. A third party registers one through the ``crossfade.transports`` entry point.

An entry is a callable that takes ``TransportSettings`` and returns a transport that is not yet
connected.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from transport.contract import Transport
from transport.errors import ConfigurationError
from transport.settings import TransportSettings

__all__ = ["available", "create"]

_GROUP = "crossfade.transports"


def available() -> list[str]:
    """Return the names that can stand in ``TRANSPORT``."""
    return sorted({entry.name for entry in entry_points(group=_GROUP)})


def create(name: str, settings: TransportSettings) -> Transport:
    """Return the transport called ``name``, not yet connected.

    Args:
        name: a registered name, as in ``TRANSPORT``.
        settings: the settings to make it with.

    Raises:
        ConfigurationError: nothing of that name is registered; the text lists the names that are.
    """
    for entry in entry_points(group=_GROUP, name=name):
        return cast("Transport", entry.load()(settings))
    raise ConfigurationError(
        f"TRANSPORT={name!r} is not a transport; choose one of {', '.join(available())}, "
        f"or install the package that registers it under '{_GROUP}'"
    )
