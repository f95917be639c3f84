"""The transport as uvicorn's request cycle sees it: closing it loses no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["CycleTransport"]


class CycleTransport:
    """A connection's transport whose ``close`` is the protocol's own."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close
