"""The rights that our user lacks at the server, for operators who look for a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["LackingRights", "TellsRights"]


class LackingRights(msgspec.Struct, frozen=True, kw_only=True):
    """The rights that our user lacks, each in the form in which an operator grants it."""

    needed: Sequence[str] = ()
    """Rights without which something does not work."""
    useful: Sequence[str] = ()
    """Rights without which something is less safe, or can't be reported."""


@runtime_checkable
class TellsRights(Protocol):
    """A transport that can tell which rights are lacking. ``Transport`` does not require it."""

    async def lacking_rights(self) -> LackingRights | None:
        """Return the lacking rights; ``None`` if the server does not tell.

        The transport has to be connected. The call changes nothing.

        Raises:
            TransportUnavailable: the server can't be reached.
        """
