"""Whether our user may do all that is needed, for people who look for a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["LackingRights", "TellsRights"]


class LackingRights(msgspec.Struct, frozen=True, kw_only=True):
    """What our user may not do, each as an operator grants it."""

    needed: Sequence[str] = ()
    """Without these something does not work."""
    useful: Sequence[str] = ()
    """Without these something is less safe, or unknown."""


@runtime_checkable
class TellsRights(Protocol):
    """A transport that can tell this. A log does without."""

    async def lacking_rights(self) -> LackingRights | None:
        """Return it, or ``None`` where the server does not tell.

        Asked of a transport that is connected; changes nothing.

        Raises:
            TransportUnavailable: the server can't be reached.
        """
