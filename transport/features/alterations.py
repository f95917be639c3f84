"""Alterations: what others changed, while we run, of a log's settings on its server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from transport.contract import Transport
from transport.features.forwarding import innermost

__all__ = ["TellsAlterations", "tells_alterations"]


@runtime_checkable
class TellsAlterations(Protocol):
    """A transport whose log has settings of its own on the server."""

    async def alterations(self) -> Sequence[str]:
        """Return each setting that is not as ours want it; a start would be refused for it.

        The answer may be some seconds old.

        Raises:
            TransportError: the server can't be asked.
        """


def tells_alterations(transport: Transport) -> TellsAlterations | None:
    """Return the innermost transport if it tells alterations, else ``None``."""
    inner = innermost(transport)
    return inner if isinstance(inner, TellsAlterations) else None
