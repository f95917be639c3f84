"""The transport as uvicorn's request cycle sees it: closing it loses no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["CycleTransport"]


class CycleTransport:
    """A connection's transport whose ``write`` and ``close`` are the protocol's own."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        write: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        self.is_closing = transport.is_closing
        self.write = write
        self.close = close
