"""Known ends: the last known record of each partition, which processes share to notice losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["KnowsEnds", "knows_ends"]


@runtime_checkable
class KnowsEnds(Protocol):
    """A transport that compares its log with records that other processes knew."""

    def known_ends(self) -> dict[int, str]:
        """Return the offset of the last known record of each partition."""

    async def look_for(self, ends: Mapping[int, str]) -> None:
        """Look for records that other processes, or earlier ones, knew; count the lost ones.

        Args:
            ends: The offset of one record by partition.

        Raises:
            TransportError: The log can't be asked now.
        """


def knows_ends(transport: Transport) -> KnowsEnds | None:
    """Return the innermost transport if it knows ends, else ``None``."""
    inner = innermost(transport)
    return inner if isinstance(inner, KnowsEnds) else None
