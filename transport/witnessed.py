"""What is known of a log that can lose what it confirmed, from one process to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.forwarding import Forwarding

__all__ = ["Witnessed", "witnessed"]


@runtime_checkable
class Witnessed(Protocol):
    """A transport that compares its log with what it was told of it before."""

    def known_ends(self) -> dict[int, str]:
        """Return the offset of the last record that is known to be there, by partition."""

    def remind(self, ends: Mapping[int, str]) -> None:
        """Note what other processes, or earlier ones, knew. ``progress`` counts what is gone."""


def witnessed(transport: Transport) -> Witnessed | None:
    """Return what stands behind ``transport``, if it is such a one."""
    inner: object = transport
    while isinstance(inner, Forwarding):
        inner = inner.inner
    return inner if isinstance(inner, Witnessed) else None
