"""How many records to take at once: what waits, up to a limit that follows the database's speed."""

from __future__ import annotations

__all__ = ["AdaptiveBatchSize"]

# The guide's own criterion is p95 < 100 ms per record. A batch is done when its last record is.
_QUICK_SECONDS = 0.1
_SLOW_SECONDS = 0.25
_FEWEST = 10


class AdaptiveBatchSize:
    """The batch size of one partition: halved when batches get slow, doubled when they are quick.

    Small batches cost throughput and large ones latency, but only when the log has that many
    waiting; below the limit a batch is all that has arrived.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = most

    def took(self, records: int, seconds: float) -> None:
        """Learn from a batch that was persisted and acknowledged."""
        if seconds > _SLOW_SECONDS:
            self.size = max(min(_FEWEST, self._most), min(self.size, records) // 2)
        elif records >= self.size and seconds < _QUICK_SECONDS:
            self.size = min(self._most, self.size * 2)
