"""The last records of a log that can lose what it confirmed, told from process to process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["KnowsEnds", "knows_ends"]


@runtime_checkable
class KnowsEnds(Protocol):
    """A transport that compares its log with what it was told of it before."""

    def known_ends(self) -> dict[int, str]:
        """Return the offset of the last record that is known to be there, by partition."""

    async def look_for(self, ends: Mapping[int, str]) -> None:
        """Look for the records that other processes, or earlier ones, knew; count what is gone.

        Args:
            ends: The offset of one record by partition.

        Raises:
            TransportError: It can't be told now.
        """


def knows_ends(transport: Transport) -> KnowsEnds | None:
    """Return the transport behind ``transport``'s decorators, if it is such a one."""
    inner = innermost(transport)
    return inner if isinstance(inner, KnowsEnds) else None
