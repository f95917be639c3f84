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
        self._epoch = 0
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
        self.wake()
        return offset

    def since(self, offset: int, limit: int) -> list[Record]:
        """Return up to ``limit`` records from ``offset`` on."""
        start = max(0, offset - self.first)
        return self.records[start : start + limit]

    def drop(self, below: int) -> None:
        """Drop the records below an offset."""
        del self.records[: max(0, below - self.first)]
        self.first = max(self.first, below)

    def next_epoch(self, above: int = 0) -> int:
        """Return an epoch above ``above``, and above each earlier one of any group.

        A group that was forgotten begins anew, and its epochs go on.
        """
        self._epoch = max(self._epoch + 1, above + 1, time.time_ns() // 1_000_000)
        return self._epoch

    def wake(self) -> None:
        """Wake every waiter."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Return at the next append or ``wake``, or after ``seconds``."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters.discard(waiter)
