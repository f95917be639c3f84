"""A claim's window: records that were fetched and are not yet acknowledged, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from transport.contract import Record
from transport.sizes import size_of

__all__ = ["Window"]

# Enough to keep a worker busy during the next fetch, and small enough for many partitions.
_FULL_RECORDS, _FULL_BYTES = 4000, 4 * 1024 * 1024


class Window:
    """The fetched records. The first ``delivered`` ones are with the worker, the others *ready*.

    ``acked`` is the offset of the first unacknowledged record, ``fetched`` the next offset to
    fetch, and ``last`` the last fetched record.
    """

    __slots__ = ("_delivered", "_ready_bytes", "_records", "acked", "fetched", "last")

    def __init__(self, start: int) -> None:
        self._records: deque[tuple[int, Record, int]] = deque()
        self._delivered = 0
        self._ready_bytes = 0
        self.acked = start
        self.fetched = start
        self.last: Record | None = None

    @property
    def ready(self) -> int:
        """The number of records that can be taken."""
        return len(self._records) - self._delivered

    @property
    def delivered(self) -> int:
        """The number of records that were taken and are not acknowledged."""
        return self._delivered

    @property
    def unacknowledged(self) -> int:
        """The number of records in the window."""
        return len(self._records)

    @property
    def full(self) -> bool:
        """Whether no more should be added for now."""
        return self.ready >= _FULL_RECORDS or self._ready_bytes >= _FULL_BYTES

    def add(self, records: Sequence[tuple[int, Record]]) -> None:
        """Append fetched records, at least one. Their offsets may have gaps."""
        held = [(offset, record, size_of(record)) for offset, record in records]
        self._records.extend(held)
        self._ready_bytes += sum([size for _, _, size in held])
        self.fetched = records[-1][0] + 1
        self.last = records[-1][1]

    def before(self, offset: int) -> Record | None:
        """Return the last record below ``offset``, if it is in the window."""
        # It is nearly always the last delivered record, so the search begins there.
        first = self._delivered or len(self._records)
        for index in range(first - 1, -1, -1):
            at, record, _ = self._records[index]
            if at < offset:
                return record
        return None

    def back_to(self, offset: int) -> bool:
        """Set ``fetched`` back to ``offset``, after the last record; return whether it moved."""
        if self.fetched <= offset:
            return False
        self.fetched = offset
        self.acked = min(self.acked, offset)
        return True

    def pass_over(self, offset: int) -> None:
        """Note that no record is to come below ``offset``."""
        self.fetched = max(self.fetched, offset)

    def next_after(self, offset: int) -> int:
        """Return the lowest offset from ``offset`` on that has or may get a record."""
        later = (at for at, _, _ in self._records if at >= offset)
        return max(offset, next(later, self.fetched))

    def take(self, most: int) -> list[Record]:
        """Deliver up to ``most`` ready records."""
        start = self._delivered
        taken = list(islice(self._records, start, start + most))
        self._delivered += len(taken)
        self._ready_bytes -= sum([size for _, _, size in taken])
        return [record for _, record, _ in taken]

    def ack(self, offset: int) -> None:
        """Forget the records below ``offset``."""
        records = self._records
        while records and records[0][0] < offset:
            _, _, size = records.popleft()
            if self._delivered:
                self._delivered -= 1
            else:
                self._ready_bytes -= size
        self.acked = max(self.acked, offset)

    def rewind(self) -> None:
        """Make every record ready again."""
        self._delivered = 0
        self._ready_bytes = sum(size for _, _, size in self._records)
