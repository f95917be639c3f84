"""A reader of one partition, which does what a worker does: it reads after its own position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from transport.contract import Record, Topic, Transport
from transport.errors import TransportUnavailable

__all__ = ["ConformanceReader"]

_WAIT_SECONDS = 1000.0
"""Longer than any test: an append has to end the wait."""
_PAUSE_SECONDS = 0.05


class ConformanceReader:
    """Keeps the records of one partition of the messages, as reads return them.

    Args:
        log: an entered transport.
        partition: the partition to read, from 0.
        limit: the most records of one read.
    """

    def __init__(self, log: Transport, partition: int = 0, *, limit: int = 1000) -> None:
        self.records: list[Record] = []
        self._log = log
        self._partition = partition
        self._limit = limit

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read until the block ends; the next block continues after the last record."""
        reading = asyncio.create_task(self._read())
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()

    async def _read(self) -> None:
        while True:
            after = self.records[-1].offset if self.records else None
            await asyncio.sleep(0)  # so that a read that does not wait can't stop the test
            try:
                self.records += await self._log.read(
                    Topic.MESSAGES,
                    self._partition,
                    after=after,
                    limit=self._limit,
                    wait=_WAIT_SECONDS,
                )
            except TransportUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
