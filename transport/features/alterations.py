"""Alterations: what others changed, while we run, of a log's settings on its server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["TellsAlterations", "tells_alterations"]


@runtime_checkable
class TellsAlterations(Protocol):
    """A transport whose server has settings that its log depends on."""

    async def alterations(self) -> Sequence[str]:
        """Return each setting that endangers records, and what was or is wanted.

        The answer may be some seconds old.

        Raises:
            TransportError: the server can't be asked.
        """


def tells_alterations(transport: Transport) -> TellsAlterations | None:
    """Return the innermost transport if it tells alterations, else ``None``."""
    inner = innermost(transport)
    return inner if isinstance(inner, TellsAlterations) else None
