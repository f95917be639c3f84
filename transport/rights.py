"""Tell which rights our user lacks at the server, for operators who look for a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["LackingRights", "TellsRights"]


class LackingRights(msgspec.Struct, frozen=True, kw_only=True):
    """Rights that our user lacks, each as an operator grants it."""

    needed: Sequence[str] = ()
    """Without one of these something does not work."""
    useful: Sequence[str] = ()
    """Without one of these something is less safe, or can't be told."""


@runtime_checkable
class TellsRights(Protocol):
    """A transport that can tell. It is optional: ``Transport`` does not ask for it."""

    async def lacking_rights(self) -> LackingRights | None:
        """Return the rights that are lacking, or ``None`` where the server does not tell.

        The transport has to be connected. Nothing is changed.

        Raises:
            TransportUnavailable: the server can't be reached.
        """
