"""The first start on a server that has no log yet, foreseen for an operator who prepares it.

Connecting a transport makes its log. These questions are asked before that, and make nothing.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from transport.durability import Durability
from transport.rights import LackingRights

__all__ = ["FirstStart", "ForeseesFirstStart"]


class FirstStart(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of a server on which no log has been made; ``None`` is not told yet."""

    durability: Durability | None = None
    """The faults that an acknowledged record of the log would survive."""
    rights: LackingRights | None = None
    """The rights that our user lacks for making and using the log."""


@runtime_checkable
class ForeseesFirstStart(Protocol):
    """A transport that can foresee its first start. ``Transport`` does not require it."""

    async def first_start(self) -> FirstStart:
        """Return what the server says. May be called before the transport is connected.

        Raises:
            ConfigurationError: a first start would be refused; the text has the remedy.
            TransportUnavailable: the server can't be reached, or can't make the log now.
        """
