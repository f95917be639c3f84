"""The registry of transports; third parties use the entry point ``crossfade.transports``.

An entry is a callable that takes the log's ``TransportSettings`` and its ``LogName``, and returns a
transport that is not yet connected. Its name is the kind of the logs that it makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from transport.contract import CONTRACT, Transport
from transport.errors import ConfigurationError
from transport.log_name import LogName
from transport.settings import TransportSettings

__all__ = ["available", "create", "known_name"]

_GROUP = "crossfade.transports"
# Checked when a transport is made, so that a missing method does not show first in a failover.
_METHODS = [
    name for name, value in vars(Transport).items() if callable(value) and not name.startswith("_")
]


def available() -> list[str]:
    """Return the registered kinds of logs, with which the value of ``TRANSPORT`` begins."""
    return sorted(_registered())


def known_name(text: str, *, variable: str = "TRANSPORT") -> LogName:
    """Return the parts of the name of a log whose kind is registered.

    Args:
        text: the name.
        variable: the variable that has the name, for the error.

    Raises:
        ConfigurationError: ``text`` is no name of a log, or its kind is not registered.
    """
    name = LogName.parse(text, variable=variable)
    if name.kind not in available():
        raise ConfigurationError(
            f"{variable}={text!r} is not a transport; choose one of {', '.join(available())}, or "
            "install the package that registers it"
        )
    return name


def create(name: str, settings: TransportSettings) -> Transport:
    """Return the log called ``name``, not yet connected.

    Args:
        name: the log's name, as in ``TRANSPORT``.
        settings: the settings of the process, which have those of the log.

    Raises:
        ConfigurationError: ``name`` is no name of a log, its kind is not registered, its label has
            no settings, or the transport was written for another contract.
    """
    parsed = known_name(name)
    made = _registered()[parsed.kind].load()(settings.of(parsed), parsed)
    written_for = getattr(made, "contract", "an unknown version")
    if _major(written_for) != _major(CONTRACT):
        raise ConfigurationError(
            f"the transport {parsed.kind!r} was written for {written_for} of the contract, and "
            f"this release has {CONTRACT}: install a release of its package for that one"
        )
    if missing := sorted(name for name in _METHODS if not hasattr(made, name)):
        raise ConfigurationError(
            f"the transport {parsed.kind!r} has no {', '.join(missing)}, which the contract "
            f"{CONTRACT} requires: install a release of its package that is complete"
        )
    return cast("Transport", made)


def _major(version: str) -> str:
    return version.partition(".")[0]


@cache
def _registered() -> Mapping[str, EntryPoint]:
    """Return the entry of each kind; the first one found, if several packages register it.

    Each search reads files of every installed package, which takes milliseconds.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=_GROUP):  # from Python 3.12 on it is not a sequence
        found.setdefault(entry.name, entry)
    return found
