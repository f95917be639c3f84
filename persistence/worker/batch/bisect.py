"""Find the record that can't be stored, without holding up or reordering the others (promise 6).

A batch that is refused is halved until the culprit stands alone. The left half is finished before
the right one begins, so the rows appear in log order however often it is halved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from persistence.errors import Rejected, TooSlow
from persistence.store.batch import PositionedEvent, Written

__all__ = ["BatchOutcome", "Refused", "isolate"]

Write = Callable[[Sequence[PositionedEvent]], Awaitable[Written]]


class Refused(msgspec.Struct):
    """A record that was tried ``attempts`` times alone, and the error."""

    index: int
    error: Rejected
    attempts: int


class BatchOutcome(msgspec.Struct):
    """Outcomes of the records of a batch: indexes, each in exactly one list."""

    persisted: list[int]
    duplicates: list[int]
    conflicts: list[int]
    refused: list[Refused]

    def add(self, written: Written, start: int) -> None:
        """Merge the outcomes of a part of the batch that began at ``start``."""
        self.persisted += [start + i for i in written.persisted]
        self.duplicates += [start + i for i in written.duplicates]
        self.conflicts += [start + i for i in written.conflicts]


async def isolate(batch: Sequence[PositionedEvent], write: Write, *, attempts: int) -> BatchOutcome:
    """Write ``batch``, isolating every record that is refused ``attempts`` times when alone.

    ``write`` is ``Writer.write`` or a wrapper of it. Its errors are raised from here, except
    ``Rejected``, and ``TooSlow`` of a batch that can be halved.
    """
    outcome = BatchOutcome([], [], [], [])
    # A stack, the left half on top: depth first from the left is log order.
    waiting = [(0, len(batch))]
    while waiting:
        start, end = waiting.pop()
        try:
            written = await write(batch[start:end])
        except (Rejected, TooSlow) as error:
            if end - start > 1:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
                continue
            if isinstance(error, TooSlow):
                raise
            await _alone(outcome, batch, start, write, attempts=attempts - 1, error=error)
        else:
            outcome.add(written, start)
    return outcome


async def _alone(
    outcome: BatchOutcome,
    batch: Sequence[PositionedEvent],
    index: int,
    write: Write,
    *,
    attempts: int,
    error: Rejected,
) -> None:
    """Try a record that was refused alone again, up to ``attempts`` times."""
    for _ in range(attempts):
        try:
            written = await write(batch[index : index + 1])
        except Rejected as again:
            error = again
        else:
            outcome.add(written, index)
            return
    outcome.refused.append(Refused(index, error, attempts + 1))
