"""Batch size: everything that waits, up to a limit that adapts to the database's speed."""

from __future__ import annotations

__all__ = ["AdaptiveBatchSize"]

# The guide's own criterion is p95 < 100 ms per record. A batch is done when its last record is.
_QUICK_SECONDS = 0.1
_SLOW_SECONDS = 0.25
_FEWEST = 10
_HALF, _AS_SLOW = 0.6, 0.75  # fractions of the records and the seconds of the slow batch before


class AdaptiveBatchSize:
    """The batch size of one partition: halved when batches get slow, doubled when they are quick.

    Small batches cost throughput and large batches cost latency. The limit matters only while that
    many records wait; below it, a batch is everything that has arrived.

    Batches are also slow if the process is short of time. Then a smaller batch takes as long as a
    larger one. In this case the size returns to its maximum, and a batch counts as slow only if it
    takes more than twice that time, until a batch is quick.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slow = _SLOW_SECONDS
        self._before: tuple[int, float] | None = None  # the last slow batch
        self.size = most

    def took(self, records: int, seconds: float) -> None:
        """Adapt the size to a batch that was persisted and acknowledged in ``seconds``."""
        if seconds > self._slow:
            if records < self.size // 2:
                return  # it was not large, so it was slow for another reason
            if self._before is not None and self._is_as_slow(*self._before, records, seconds):
                self._slow = 2 * seconds
                self._before = None
                self.size = self._most
            else:
                self._before = records, seconds
                self.size = max(min(_FEWEST, self._most), records // 2)
        elif seconds < _QUICK_SECONDS:
            self._slow, self._before = _SLOW_SECONDS, None
            if records >= self.size:
                self.size = min(self._most, self.size * 2)

    @staticmethod
    def _is_as_slow(
        records_before: int, seconds_before: float, records: int, seconds: float
    ) -> bool:
        """Return whether a batch of about half as many records took hardly less time."""
        return records <= _HALF * records_before and seconds > _AS_SLOW * seconds_before
