"""One partition of the log in memory."""

from __future__ import annotations

import asyncio
import time

from transport.contract import Record, Topic

__all__ = ["MemoryPartition"]


class MemoryPartition:
    """Records in order. Offsets count from 0, and are not reused when old records are dropped."""

    def __init__(self, topic: Topic, number: int) -> None:
        self.topic = topic
        self.number = number
        self.first = 0
        self.records: list[Record] = []
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def end(self) -> int:
        """The offset the next record gets."""
        return self.first + len(self.records)

    def append(self, key: str, body: bytes, headers: dict[str, bytes]) -> str:
        """Append a record and return its offset."""
        offset = str(self.end)
        self.records.append(
            Record(self.topic, self.number, offset, key, body, headers, time.time())
        )
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        return offset

    def since(self, offset: int, limit: int) -> list[Record]:
        """Return up to ``limit`` records from ``offset`` on."""
        start = max(0, offset - self.first)
        return self.records[start : start + limit]

    def drop(self, below: int) -> None:
        """Drop the records below an offset."""
        del self.records[: max(0, below - self.first)]
        self.first = max(self.first, below)

    async def wait(self, seconds: float) -> None:
        """Return at the next append, or after ``seconds``."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters.discard(waiter)
