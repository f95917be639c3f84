"""A real log behind a gate: hold its appends, fail them, count them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from transport.contract import Envelope, Outcome, Transport
from transport.errors import TransportError

__all__ = ["GatedLog"]


class GatedLog:
    """Everything is the inner log's, but ``publish`` waits while ``gate`` is not set.

    ``published`` are the calls that got through. ``fail_with`` fails the next calls before
    (``lost_reply``: after) the append.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.published: list[Sequence[Envelope]] = []
        self.fail_with: Exception | None = None
        self.lost_reply: TransportError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append, if and when the gate lets it."""
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if isinstance(self.fail_with, TransportError):
            return [self.fail_with] * len(envelopes)
        if self.fail_with is not None:
            raise self.fail_with
        outcomes = await self._inner.publish(envelopes, remember=remember)
        self.published.append(envelopes)
        return [self.lost_reply] * len(envelopes) if self.lost_reply else outcomes
